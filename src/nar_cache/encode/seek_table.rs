//! The seek table behind the frames of a compressed NAR ("zstd seekable format" 0.1.0, which is published with zstd).

use std::io;

use super::encoding::FRAME_SIZE;

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

pub(super) fn render_seek_table(frames: &[Frame]) -> io::Result<Vec<u8>> {
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
pub const fn seek_table_len(frames: usize) -> usize {
    TABLE_HEAD + frames * TABLE_ENTRY + TABLE_FOOT
}

/// How many frames a NAR of `size` bytes has; `None` if it is too long for a table.
#[must_use]
pub fn frame_count(size: u64) -> Option<usize> {
    usize::try_from(size.div_ceil(FRAME_SIZE)).ok().filter(|count| (1..=MAX_FRAMES).contains(count))
}

/// Reads the table of a file of `length` bytes, the compressed form of a NAR of `size` bytes; `None` if it is not that.
#[must_use]
pub fn parse_seek_table(bytes: &[u8], length: u64, size: u64) -> Option<Vec<Frame>> {
    let count = frame_count(size)?;
    let entries = bytes.get(TABLE_HEAD..TABLE_HEAD + count * TABLE_ENTRY)?;
    let number = |at: &[u8]| Some(u32::from_le_bytes(at.try_into().ok()?));
    let frames = entries
        .chunks_exact(TABLE_ENTRY)
        .map(|entry| Some(Frame { compressed: number(&entry[..4])?, plain: number(&entry[4..])? }))
        .collect::<Option<Vec<_>>>()?;
    let sum = |of: fn(&Frame) -> u32| frames.iter().map(|frame| u64::from(of(frame))).sum::<u64>();
    let holds = render_seek_table(&frames).is_ok_and(|table| table == bytes)
        && sum(|frame| frame.compressed) + bytes.len() as u64 == length
        && sum(|frame| frame.plain) == size
        && frames[..count - 1].iter().all(|frame| u64::from(frame.plain) == FRAME_SIZE);
    holds.then_some(frames)
}
