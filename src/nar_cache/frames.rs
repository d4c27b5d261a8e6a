//! A NAR as independent zstd frames with a seek table after them (RFC 8878, and the "zstd seekable format" 0.1.0 that is
//! published with zstd).
//!
//! Owns the encoder: what it writes is a function of the encoding and of the NAR, never of how the NAR comes cut. Each
//! frame holds [`FRAME`] bytes of the NAR, the last one what is left, and has a checksum. The table stands in a frame
//! that decoders skip, so that the whole is what any zstd decoder takes for the NAR.

use std::io;

use zstd::zstd_safe::{CCtx, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name};

use super::encoding::Encoding;

/// Bytes of a NAR in one frame. Repetitions are found within a frame only, and a range costs at most one. On a store of
/// 1.9 GB frames of 32 MiB came to 34 MB more than frames of 64 MiB.
pub const FRAME: u64 = 128 << 20;
/// Bytes that are encoded in one go, a divisor of [`FRAME`]: less than ten milliseconds at level 3.
pub(super) const UNIT: usize = 1 << 20;
/// Least room in the output for a call of the encoder.
const ROOM: usize = 16 << 10;

/// RFC 8878, section 3.1.2; the last digit is the seekable format's choice.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Magic and length in front of the table.
const TABLE_HEAD: usize = 8;
/// Compressed and plain size of a frame.
const TABLE_ENTRY: usize = 8;
/// Number of frames, descriptor, magic.
const TABLE_FOOT: usize = 9;
/// Most frames of a table that is read: of a NAR of 16 TiB.
const MAX_FRAMES: usize = 1 << 18;

/// The sizes of a frame, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// As it is served.
    pub compressed: u32,
    /// Of the NAR.
    pub plain: u32,
}

/// Encodes one NAR, unit by unit.
pub(super) struct FrameEncoder {
    encoding: Encoding,
    /// Of the NAR, in bytes.
    size: u64,
    /// Bytes of the NAR that were taken.
    taken: u64,
    context: CCtx<'static>,
    /// Whether a frame has begun.
    is_open: bool,
    /// What that frame has come to.
    compressed: u64,
    frames: Vec<Frame>,
}

impl FrameEncoder {
    /// For a NAR of `size` bytes, which is not 0.
    pub(super) fn new(encoding: Encoding, size: u64) -> Self {
        Self { encoding, size, taken: 0, context: CCtx::create(), is_open: false, compressed: 0, frames: Vec::new() }
    }

    /// Whether the last unit has been taken.
    pub(super) const fn is_finished(&self) -> bool {
        self.taken >= self.size
    }

    /// What the library has allocated for it, in bytes; all of it from the first unit on.
    pub(super) fn memory(&self) -> usize {
        self.context.sizeof()
    }

    /// Takes the next unit: [`UNIT`] bytes, or all that is left. The result is what it comes to, after the last unit with
    /// the table.
    pub(super) fn encode(&mut self, unit: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(compress_bound(unit.len()));
        if !self.is_open {
            self.begin()?;
        }
        let mut input = InBuffer::around(unit);
        while input.pos() < unit.len() {
            output.reserve(ROOM);
            let written = output.len();
            let mut room = OutBuffer::around_pos(&mut output, written);
            self.context.compress_stream(&mut room, &mut input).map_err(failed)?;
        }
        self.taken += unit.len() as u64;
        let is_last = self.is_finished();
        if is_last || self.taken % FRAME == 0 {
            // A NAR longer or shorter than was said is an error here: the frame states its length.
            self.finish(&mut output)?;
            self.close(output.len())?;
        } else {
            self.compressed += output.len() as u64;
        }
        if is_last {
            output.extend(table(&self.frames)?);
        }
        Ok(output)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.context.reset(ResetDirective::SessionAndParameters).map_err(failed)?;
        for parameter in self.encoding.parameters(self.size) {
            self.context.set_parameter(parameter).map_err(failed)?;
        }
        self.context.set_pledged_src_size(Some(FRAME.min(self.size - self.taken))).map_err(failed)?;
        self.is_open = true;
        Ok(())
    }

    fn finish(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        loop {
            output.reserve(ROOM);
            let written = output.len();
            if self.context.end_stream(&mut OutBuffer::around_pos(output, written)).map_err(failed)? == 0 {
                return Ok(());
            }
        }
    }

    fn close(&mut self, written: usize) -> io::Result<()> {
        let before = self.frames.len() as u64 * FRAME;
        let frame = Frame {
            compressed: u32::try_from(self.compressed + written as u64).map_err(io::Error::other)?,
            plain: u32::try_from(self.taken - before).map_err(io::Error::other)?,
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

fn table(frames: &[Frame]) -> io::Result<Vec<u8>> {
    let length = frames.len() * TABLE_ENTRY + TABLE_FOOT;
    let mut table = Vec::with_capacity(TABLE_HEAD + length);
    table.extend(SKIPPABLE_MAGIC.to_le_bytes());
    table.extend(u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    for frame in frames {
        table.extend(frame.compressed.to_le_bytes());
        table.extend(frame.plain.to_le_bytes());
    }
    table.extend(u32::try_from(frames.len()).map_err(io::Error::other)?.to_le_bytes());
    // No checksums of their own: the frames have theirs.
    table.push(0);
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    Ok(table)
}

/// The bytes that the table takes at the end of a file of so many frames.
#[must_use]
pub const fn table_length(frames: usize) -> usize {
    TABLE_HEAD + frames * TABLE_ENTRY + TABLE_FOOT
}

/// How many frames a NAR of `size` bytes has; `None` if it is too long for a table.
#[must_use]
pub fn frame_count(size: u64) -> Option<usize> {
    usize::try_from(size.div_ceil(FRAME)).ok().filter(|count| (1..=MAX_FRAMES).contains(count))
}

/// Reads the table of a file of `length` bytes, the compressed form of a NAR of `size` bytes; `None` if it is not that.
#[must_use]
pub fn parse_table(bytes: &[u8], length: u64, size: u64) -> Option<Vec<Frame>> {
    let count = frame_count(size)?;
    let entries = bytes.get(TABLE_HEAD..TABLE_HEAD + count * TABLE_ENTRY)?;
    let number = |at: &[u8]| Some(u32::from_le_bytes(at.try_into().ok()?));
    let frames = entries
        .chunks_exact(TABLE_ENTRY)
        .map(|entry| Some(Frame { compressed: number(&entry[..4])?, plain: number(&entry[4..])? }))
        .collect::<Option<Vec<_>>>()?;
    let sum = |of: fn(&Frame) -> u32| frames.iter().map(|frame| u64::from(of(frame))).sum::<u64>();
    let holds = table(&frames).is_ok_and(|table| table == bytes)
        && sum(|frame| frame.compressed) + bytes.len() as u64 == length
        && sum(|frame| frame.plain) == size
        && frames[..count - 1].iter().all(|frame| u64::from(frame.plain) == FRAME);
    holds.then_some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Zstd;
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
        let encoding = Encoding::new(Zstd { level: 1, ..Zstd::default() });
        let mut encoder = FrameEncoder::new(encoding, plain.len() as u64);
        let mut output = Vec::new();
        for unit in plain.chunks(UNIT) {
            output.extend(encoder.encode(unit)?);
        }
        Ok(output)
    }

    fn parsed(file: &[u8], size: usize) -> Option<Vec<Frame>> {
        let start = file.len().checked_sub(table_length(frame_count(size as u64)?))?;
        parse_table(&file[start..], file.len() as u64, size as u64)
    }

    #[test]
    fn any_decoder_takes_frames_and_table_for_the_nar() {
        for length in [1, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT] {
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
        let frame = usize::try_from(FRAME).unwrap();
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
        for at in file.len() - table_length(1)..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(parsed(&other, 1000).is_none(), "{at}");
        }
        assert!(parse_table(&[], 0, 0).is_none());
        assert!(parse_table(&[], u64::MAX, u64::MAX).is_none());
    }

    #[test]
    fn a_nar_of_another_length_than_was_said_is_an_error() {
        let mut encoder = FrameEncoder::new(Encoding::new(Zstd::default()), 99);
        assert!(encoder.encode(&sample(100)).is_err());
    }
}
