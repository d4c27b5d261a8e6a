//! Decodes a NAR, or a part of it, from its compressed form. Only the frames that overlap the part are read.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::disk_cache::DiskCache;
use super::entry::Entry;
use super::key::EntryKey;
use crate::nar_cache::encode::encoding::FRAME_SIZE;

/// Reads a compressed NAR from an offset to the end of that block, see [`Entry::read`].
pub(crate) type ReadBlock = Box<dyn FnMut(u64) -> io::Result<Bytes> + Send>;

/// Decodes a NAR from some byte on. Reading may wait for the disk.
pub(crate) struct NarDecoder {
    entry: Arc<Entry>,
    read: ReadBlock,
    /// Index of the frame that is being decoded.
    frame: usize,
    /// Offset of the frame's next byte to read, and of its end.
    at: u64,
    end: u64,
    input: Bytes,
    decoder: Decoder<'static>,
    /// Bytes of this frame to discard.
    skip: u64,
}

impl NarDecoder {
    /// Decodes from byte `first` of the NAR on, which must be less than its size.
    pub(crate) fn new(entry: Arc<Entry>, first: u64, read: ReadBlock) -> io::Result<Self> {
        let frame = usize::try_from(first / FRAME_SIZE).map_err(io::Error::other)?;
        let before = entry.frames().iter().take(frame);
        let at: u64 = before.map(|frame| u64::from(frame.compressed)).sum();
        let skip = first % FRAME_SIZE;
        let decoder = decoder()?;
        let mut nar = Self { entry, read, frame, at, end: at, input: Bytes::new(), decoder, skip };
        nar.end = nar.at + nar.length();
        Ok(nar)
    }

    /// Returns the compressed length of the current frame; 0 after the last one.
    fn length(&self) -> u64 {
        self.entry.frames().get(self.frame).map_or(0, |frame| u64::from(frame.compressed))
    }

    /// Decodes into `buffer`. Returns 0 at the end of the NAR.
    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.input.is_empty() && self.at < self.end {
                let mut piece = (self.read)(self.at)?;
                piece.truncate(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
                self.at += piece.len() as u64;
                self.input = piece;
            }
            if self.frame == self.entry.frames().len() {
                return Ok(0);
            }
            let mut input = InBuffer::around(&self.input);
            let mut output = OutBuffer::around(buffer);
            let more = self.decoder.run(&mut input, &mut output)?;
            let (consumed, written) = (input.pos(), output.pos());
            self.input.advance(consumed);
            if more == 0 {
                if self.at < self.end || !self.input.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame ends early"));
                }
                self.frame += 1;
                self.end = self.at + self.length();
                self.decoder = decoder()?;
            } else if consumed == 0 && written == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame does not end"));
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

impl Read for NarDecoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            let wanted = usize::try_from(self.skip).unwrap_or(usize::MAX).min(buffer.len());
            if wanted == 0 {
                return self.decode(buffer);
            }
            let skipped = self.decode(&mut buffer[..wanted])?;
            if skipped == 0 {
                return Ok(0);
            }
            self.skip -= skipped as u64;
        }
        Ok(0)
    }
}

/// An uncompressed NAR that is decoded from the cache. A file that turns out to be corrupt is removed.
pub struct PlainNar {
    decoder: NarDecoder,
    disk: Arc<DiskCache>,
    key: EntryKey,
}

impl PlainNar {
    pub(crate) const fn new(decoder: NarDecoder, disk: Arc<DiskCache>, key: EntryKey) -> Self {
        Self { decoder, disk, key }
    }
}

impl Read for PlainNar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).inspect_err(|cause| self.disk.evict_corrupt(&self.key, cause))
    }
}

fn decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(FRAME_SIZE.ilog2()))?;
    Ok(decoder)
}
