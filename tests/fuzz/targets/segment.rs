//! Segments of the index: what is read is what was written, and nothing with another magic number, length or order is read.

use harmonia::bucket::canonical;

use super::Parameters;

/// Magic number and two counts.
const HEAD: usize = 16;
/// A hash part, decoded.
const HASH: usize = 20;
/// Paths in a segment, which bound the memory that one takes.
const MAX_PATHS: usize = 50_000;

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let kind = parameters.byte() % 3;
    match kind {
        0 => of_an_object(parameters.rest()),
        1 => of_contents(parameters.rest()),
        // Counts that match are not found by chance.
        _ => {
            let published = parameters.byte();
            let hashes = parameters.rest();
            let hashes = &hashes[..hashes.len() / HASH * HASH];
            let published = u32::from(published).min(u32::try_from(hashes.len() / HASH).unwrap_or(u32::MAX));
            let removed = u32::try_from(hashes.len() / HASH).unwrap_or(u32::MAX) - published;
            of_contents(&[b"harmidx1", &published.to_le_bytes()[..], &removed.to_le_bytes(), hashes].concat());
        }
    }
}

fn of_an_object(bytes: &[u8]) {
    let Some(written) = canonical::segment(bytes) else { return };
    let contents = contents_of(bytes).expect("a frame of zstd");
    assert_eq!(contents_of(&written).as_deref(), Some(&*contents));
    is_well_formed(&contents);
}

fn of_contents(contents: &[u8]) {
    let object = zstd::bulk::compress(contents, 1).expect("memory");
    let Some(written) = canonical::segment(&object) else { return };
    assert_eq!(contents_of(&written).as_deref(), Some(contents));
    is_well_formed(contents);
    // Another byte in the object is noticed: it is written with a checksum.
    let mut broken = written.clone();
    let at = contents.iter().map(|byte| usize::from(*byte)).sum::<usize>() % broken.len();
    broken[at] ^= 1;
    assert!(canonical::segment(&broken).is_none_or(|read| read == written), "byte {at} is not looked at");
}

fn is_well_formed(contents: &[u8]) {
    let (head, hashes) = contents.split_at(HEAD);
    let count = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (published, removed) = (count(8), count(12));
    assert_eq!(&head[..8], b"harmidx1");
    assert!(published + removed <= MAX_PATHS && hashes.len() == (published + removed) * HASH);
    let (published, removed) = hashes.split_at(published * HASH);
    let [published, removed] = [published, removed].map(|hashes| hashes.chunks(HASH).collect::<Vec<_>>());
    assert!(published.is_sorted_by(|a, b| a < b) && removed.is_sorted_by(|a, b| a < b));
    assert!(published.iter().all(|hash| !removed.contains(hash)), "published and removed");
}

/// The contents, as any decoder has them.
fn contents_of(object: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::decompress(object, HEAD + MAX_PATHS * HASH).ok()
}
