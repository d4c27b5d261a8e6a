//! Seek tables of compressed NARs: what is taken for one is the only one of its file, and adds up to file and NAR.

use harmonia::nar_cache::{FRAME_SIZE, frame_count, parse_seek_table, seek_table_len};

use super::Parameters;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (is_free, length, size) = (parameters.byte() % 2 == 1, parameters.number(), parameters.number());
    let table = parameters.rest();
    // Else the sizes are those that the table says, which are not found by chance.
    let (length, size) = if is_free { (length, size) } else { sizes(table) };
    let Some(frames) = parse_seek_table(table, length, size) else { return };

    assert_eq!(frame_count(size), Some(frames.len()));
    assert_eq!(seek_table_len(frames.len()), table.len());
    let compressed: u64 = frames.iter().map(|frame| u64::from(frame.compressed)).sum();
    let plain: u64 = frames.iter().map(|frame| u64::from(frame.plain)).sum();
    assert_eq!((compressed + table.len() as u64, plain), (length, size));
    let (last, full) = frames.split_last().expect("a nar has bytes");
    assert!(full.iter().all(|frame| u64::from(frame.plain) == FRAME_SIZE));
    assert!(last.plain > 0 && u64::from(last.plain) <= FRAME_SIZE);

    assert!(parse_seek_table(table, length + 1, size).is_none());
    assert!(parse_seek_table(table, length, size + 1).is_none() && parse_seek_table(table, length, size - 1).is_none());
    assert!(parse_seek_table(&table[1..], length - 1, size).is_none());
    assert!(parse_seek_table(&[table, b"\0"].concat(), length + 1, size).is_none());
}

/// Returns the sizes of file and NAR, summed over the entries between a head of 8 bytes and a foot of 9.
fn sizes(table: &[u8]) -> (u64, u64) {
    let entries = table.get(8..table.len().saturating_sub(9)).unwrap_or_default();
    let (mut length, mut size) = (table.len() as u64, 0);
    for entry in entries.chunks_exact(8) {
        let number =
            |at: usize| u64::from(u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]));
        length += number(0);
        size += number(4);
    }
    (length, size)
}
