//! The seek table behind the frames of a compressed NAR ("zstd seekable format" 0.1.0, which is published with zstd).

use std::io;

use super::encoding::FRAME_SIZE;

/// Magic number of a skippable frame (RFC 8878, section 3.1.2), with the last digit of the seekable format.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Length of the header: magic number and frame length.
const HEADER: usize = 8;
/// Length of an entry: compressed and uncompressed size of a frame.
const ENTRY: usize = 8;
/// Length of the footer: number of frames, descriptor, magic number.
const FOOTER: usize = 9;
/// Limit on frames: those of a NAR of 32 TiB.
const MAX_FRAMES: usize = 1 << 18;

/// Sizes of a frame, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Compressed size.
    pub compressed: u32,
    /// Uncompressed size.
    pub plain: u32,
}

pub(super) fn render_seek_table(frames: &[Frame]) -> io::Result<Vec<u8>> {
    let length = frames.len() * ENTRY + FOOTER;
    let mut table = Vec::with_capacity(HEADER + length);
    table.extend(SKIPPABLE_MAGIC.to_le_bytes());
    table.extend(u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    for frame in frames {
        table.extend(frame.compressed.to_le_bytes());
        table.extend(frame.plain.to_le_bytes());
    }
    table.extend(u32::try_from(frames.len()).map_err(io::Error::other)?.to_le_bytes());
    // Descriptor: no checksums, since each frame has its own.
    table.push(0);
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    Ok(table)
}

/// Returns the length of the seek table for this number of frames, in bytes.
#[must_use]
pub const fn seek_table_len(frames: usize) -> usize {
    HEADER + frames * ENTRY + FOOTER
}

/// Returns the number of frames of a NAR of `size` bytes; `None` if it is empty or too large for a seek table.
#[must_use]
pub fn frame_count(size: u64) -> Option<usize> {
    usize::try_from(size.div_ceil(FRAME_SIZE)).ok().filter(|count| (1..=MAX_FRAMES).contains(count))
}

/// Parses the seek table of a compressed NAR of `length` bytes, whose uncompressed size is `size`. Returns `None` unless the
/// table is the only one that fits.
#[must_use]
pub fn parse_seek_table(bytes: &[u8], length: u64, size: u64) -> Option<Vec<Frame>> {
    let count = frame_count(size)?;
    let entries = bytes.get(HEADER..HEADER + count * ENTRY)?;
    let number = |at: &[u8]| Some(u32::from_le_bytes(at.try_into().ok()?));
    let frames = entries
        .chunks_exact(ENTRY)
        .map(|entry| Some(Frame { compressed: number(&entry[..4])?, plain: number(&entry[4..])? }))
        .collect::<Option<Vec<_>>>()?;
    let sum = |of: fn(&Frame) -> u32| frames.iter().map(|frame| u64::from(of(frame))).sum::<u64>();
    let holds = render_seek_table(&frames).is_ok_and(|table| table == bytes)
        && sum(|frame| frame.compressed) + bytes.len() as u64 == length
        && sum(|frame| frame.plain) == size
        && frames[..count - 1].iter().all(|frame| u64::from(frame.plain) == FRAME_SIZE);
    holds.then_some(frames)
}
