//! Encodes a NAR as independent zstd frames with a seek table behind them (RFC 8878, and the "zstd seekable format" 0.1.0 that
//! is published with zstd).
//!
//! The output depends only on the encoding and the NAR. Each frame holds [`FRAME_SIZE`] bytes of the NAR, the last one the rest,
//! and has a checksum. The seek table is in a frame that decoders skip, so that any zstd decoder decodes the whole to the NAR.

use std::io;

use zstd::zstd_safe::{CCtx, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name};

use super::encoding::{Encoding, FRAME_SIZE};
use super::seek_table::{Frame, render_seek_table};

/// Bytes that are encoded at once, a divisor of [`FRAME_SIZE`]: less than ten milliseconds at level 3.
pub(crate) const CHUNK_SIZE: usize = 1 << 20;
/// Least free space in the output for a call of libzstd.
const MIN_SPACE: usize = 16 << 10;

/// Encodes one NAR chunk by chunk.
pub(crate) struct FrameEncoder {
    encoding: Encoding,
    /// Size of the NAR in bytes.
    size: u64,
    /// Bytes of the NAR that were encoded.
    encoded_bytes: u64,
    context: CCtx<'static>,
    /// Whether a frame is open.
    is_open: bool,
    /// Compressed bytes of the open frame.
    compressed: u64,
    frames: Vec<Frame>,
}

impl FrameEncoder {
    /// Creates an encoder for a NAR of `size` bytes, which must not be 0.
    pub(crate) fn new(encoding: Encoding, size: u64) -> Self {
        Self {
            encoding,
            size,
            encoded_bytes: 0,
            context: CCtx::create(),
            is_open: false,
            compressed: 0,
            frames: Vec::new(),
        }
    }

    /// Returns whether the whole NAR was encoded.
    pub(crate) const fn is_finished(&self) -> bool {
        self.encoded_bytes >= self.size
    }

    /// Returns the bytes that libzstd has allocated; everything is allocated from the first chunk on.
    pub(crate) fn memory(&self) -> usize {
        self.context.sizeof()
    }

    /// Encodes the next chunk: [`CHUNK_SIZE`] bytes, or the rest of the NAR. The output of the last chunk includes the seek
    /// table.
    pub(crate) fn encode(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(compress_bound(chunk.len()));
        if !self.is_open {
            self.begin()?;
        }
        let mut input = InBuffer::around(chunk);
        while input.pos() < chunk.len() {
            output.reserve(MIN_SPACE);
            let written = output.len();
            let mut space = OutBuffer::around_pos(&mut output, written);
            self.context.compress_stream(&mut space, &mut input).map_err(failed)?;
        }
        self.encoded_bytes += chunk.len() as u64;
        let is_last = self.is_finished();
        if is_last || self.encoded_bytes % FRAME_SIZE == 0 {
            // Fails for a NAR of another length than announced, since the frame states its length.
            self.finish(&mut output)?;
            self.close(output.len())?;
        } else {
            self.compressed += output.len() as u64;
        }
        if is_last {
            output.extend(render_seek_table(&self.frames)?);
        }
        Ok(output)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.context.reset(ResetDirective::SessionAndParameters).map_err(failed)?;
        for parameter in self.encoding.parameters(self.size) {
            self.context.set_parameter(parameter).map_err(failed)?;
        }
        self.context.set_pledged_src_size(Some(FRAME_SIZE.min(self.size - self.encoded_bytes))).map_err(failed)?;
        self.is_open = true;
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        loop {
            output.reserve(MIN_SPACE);
            let written = output.len();
            if self.context.end_stream(&mut OutBuffer::around_pos(output, written)).map_err(failed)? == 0 {
                return Ok(());
            }
        }
    }

    fn close(&mut self, written: usize) -> io::Result<()> {
        let before = self.frames.len() as u64 * FRAME_SIZE;
        let frame = Frame {
            compressed: u32::try_from(self.compressed + written as u64).map_err(io::Error::other)?,
            plain: u32::try_from(self.encoded_bytes - before).map_err(io::Error::other)?,
        };
        self.frames.push(frame);
        self.compressed = 0;
        self.is_open = false;
        Ok(())
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ZstdConfig;
    use crate::nar_cache::encode::seek_table::{frame_count, parse_seek_table, seek_table_len};
    use std::io::Read as _;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 28) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn encoded(plain: &[u8]) -> io::Result<Vec<u8>> {
        let encoding = Encoding::new(ZstdConfig { level: 1, ..ZstdConfig::default() });
        let mut encoder = FrameEncoder::new(encoding, plain.len() as u64);
        let mut output = Vec::new();
        for chunk in plain.chunks(CHUNK_SIZE) {
            output.extend(encoder.encode(chunk)?);
        }
        Ok(output)
    }

    fn parsed(file: &[u8], size: usize) -> Option<Vec<Frame>> {
        let start = file.len().checked_sub(seek_table_len(frame_count(size as u64)?))?;
        parse_seek_table(&file[start..], file.len() as u64, size as u64)
    }

    #[test]
    fn any_decoder_takes_frames_and_table_for_the_nar() {
        for length in [1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE] {
            let plain = sample(length);
            let file = encoded(&plain).unwrap();
            let mut decoded = Vec::new();
            zstd::Decoder::new(&file[..]).unwrap().read_to_end(&mut decoded).unwrap();
            assert!(decoded == plain, "{length}");
            let frames = parsed(&file, length).unwrap();
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].plain as usize, length);
        }
    }

    #[test]
    fn every_frame_decodes_alone_and_states_its_length() {
        let frame = usize::try_from(FRAME_SIZE).unwrap();
        let plain = sample(frame + 5);
        let file = encoded(&plain).unwrap();
        let frames = parsed(&file, plain.len()).unwrap();
        let (first, second) = (frames[0].compressed as usize, frames[1].compressed as usize);
        for (bytes, expected) in [(&file[..first], &plain[..frame]), (&file[first..first + second], &plain[frame..])] {
            assert_eq!(zstd::zstd_safe::get_frame_content_size(bytes).unwrap(), Some(expected.len() as u64));
            assert!(zstd::stream::decode_all(bytes).unwrap() == expected);
        }
    }

    #[test]
    fn a_table_of_anything_else_is_none() {
        let file = encoded(&sample(1000)).unwrap();
        assert!(parsed(&file, 1000).is_some());
        assert!(parsed(&file, 999).is_none());
        assert!(parsed(&file[1..], 1000).is_none());
        for at in file.len() - seek_table_len(1)..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(parsed(&other, 1000).is_none(), "{at}");
        }
        assert!(parse_seek_table(&[], 0, 0).is_none());
        assert!(parse_seek_table(&[], u64::MAX, u64::MAX).is_none());
    }

    #[test]
    fn a_nar_of_another_length_than_announced_is_an_error() {
        let mut encoder = FrameEncoder::new(Encoding::new(ZstdConfig::default()), 99);
        assert!(encoder.encode(&sample(100)).is_err());
    }
}
