//! Segments of the index: which paths a host has published, and which it has removed, as an object of its own.
//!
//! | part | bytes |
//! |---|---|
//! | magic `harmidx1` | 8 |
//! | number of published paths, number of removed paths, little endian | 4, 4 |
//! | hash parts of published paths, decoded from nix32, ascending | 20 each |
//! | hash parts of removed paths, likewise | 20 each |
//!
//! All of it is one zstd frame with a checksum. A hash part occurs once in a segment. Segments of a host are applied in the
//! order of their names. A reader refuses whatever is not of this form: the bucket is not trusted with memory.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use harmonia_protocol::{HashPart, nix32};

const MAGIC: [u8; 8] = *b"harmidx1";
const HEAD: usize = MAGIC.len() + 4 + 4;
/// Length of a decoded hash part, in bytes.
const HASH: usize = 20;
/// Upper bound of the paths of one segment, so of 1 MiB. A larger change takes several.
pub(crate) const MAX_PATHS: usize = 50_000;
/// Upper bound of a segment's size before it is compressed, in bytes.
const MAX_PLAIN: usize = HEAD + MAX_PATHS * HASH;
/// Upper bound of a segment's size in the bucket, in bytes. Hashes do not compress, so it is about the size of the contents.
pub(crate) const MAX_SEGMENT: usize = MAX_PLAIN + (64 << 10);
/// Hashes hardly compress; what matters is the checksum.
const LEVEL: i32 = 1;

/// Changes that a host has made to what is in the bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    published: BTreeSet<HashPart>,
    removed: BTreeSet<HashPart>,
}

/// Reason why bytes are no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SegmentError {
    /// No zstd frame, a wrong checksum, or too long.
    #[error("not a zstd frame of {MAX_PLAIN} bytes at most")]
    Frame,
    /// Another magic number, or lengths that do not match.
    #[error("malformed head")]
    Head,
    /// Hash parts that are not ascending, or occur twice.
    #[error("hash parts are not in ascending order")]
    Order,
}

impl Segment {
    /// Records that a path was published, after whatever was recorded for it. Returns whether there was room.
    #[must_use]
    pub(crate) fn publish(&mut self, path: HashPart) -> bool {
        let is_known = self.removed.remove(&path) || self.published.contains(&path);
        let has_room = is_known || self.len() < MAX_PATHS;
        if has_room {
            self.published.insert(path);
        }
        has_room
    }

    /// Records that a path was removed, after whatever was recorded for it. Returns whether there was room.
    ///
    /// This release reads such segments and writes none: a garbage collection puts the index together without what it deletes.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn remove(&mut self, path: HashPart) -> bool {
        let is_known = self.published.remove(&path) || self.removed.contains(&path);
        let has_room = is_known || self.len() < MAX_PATHS;
        if has_room {
            self.removed.insert(path);
        }
        has_room
    }

    /// Returns the published paths, in ascending order.
    pub(crate) fn published(&self) -> impl ExactSizeIterator<Item = &HashPart> {
        self.published.iter()
    }

    /// Returns the removed paths, in ascending order.
    pub(crate) fn removed(&self) -> impl ExactSizeIterator<Item = &HashPart> {
        self.removed.iter()
    }

    /// Returns the number of paths.
    pub(crate) fn len(&self) -> usize {
        self.published.len() + self.removed.len()
    }

    /// Returns whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Renders the object. Fails only if memory is exhausted.
    pub(crate) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(HEAD + self.len() * HASH);
        plain.extend_from_slice(&MAGIC);
        for count in [self.published.len(), self.removed.len()] {
            plain.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        for set in [&self.published, &self.removed] {
            let mut digests: Vec<[u8; HASH]> = set.iter().filter_map(digest).collect();
            digests.sort_unstable();
            plain.extend_from_slice(digests.as_flattened());
        }
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(&plain)
    }

    /// Parses an object. Memory is bounded by [`MAX_PATHS`], whatever the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        if bytes.len() > MAX_SEGMENT {
            return Err(SegmentError::Frame);
        }
        let plain = zstd::bulk::decompress(bytes, MAX_PLAIN).map_err(|_| SegmentError::Frame)?;
        let (head, hashes) = plain.split_at_checked(HEAD).ok_or(SegmentError::Head)?;
        let count = |at: usize| {
            let bytes = head.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        let (published, removed) = count(8).zip(count(12)).ok_or(SegmentError::Head)?;
        let is_whole = published.checked_add(removed).and_then(|all| all.checked_mul(HASH)) == Some(hashes.len());
        if head[..MAGIC.len()] != MAGIC || !is_whole {
            return Err(SegmentError::Head);
        }
        let (published, removed) = hashes.split_at(published * HASH);
        let segment = Self { published: set(published)?, removed: set(removed)? };
        if segment.published.is_disjoint(&segment.removed) { Ok(segment) } else { Err(SegmentError::Order) }
    }
}

/// Returns the 20 bytes of a hash part.
pub(crate) fn digest(path: &HashPart) -> Option<[u8; HASH]> {
    nix32::decode(path.as_str().as_bytes()).ok()?.try_into().ok()
}

fn set(bytes: &[u8]) -> Result<BTreeSet<HashPart>, SegmentError> {
    let digests: Vec<&[u8]> = bytes.chunks_exact(HASH).collect();
    if !digests.is_sorted_by(|a, b| a < b) {
        return Err(SegmentError::Order);
    }
    digests
        .into_iter()
        .map(|digest| HashPart::from_str(&nix32::encode(digest)).map_err(|_| SegmentError::Head))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn part(bytes: [u8; HASH]) -> HashPart {
        HashPart::from_str(&nix32::encode(&bytes)).unwrap()
    }

    #[test]
    fn the_last_change_of_a_path_counts() {
        let (a, b) = (part([1; HASH]), part([2; HASH]));
        let mut segment = Segment::default();
        assert!(segment.is_empty());
        assert!(segment.publish(a) && segment.publish(b) && segment.remove(a));
        assert_eq!(
            (segment.published().collect::<Vec<_>>(), segment.removed().collect::<Vec<_>>()),
            (vec![&b], vec![&a])
        );
        assert!(segment.publish(a));
        assert_eq!((segment.published().len(), segment.removed().len()), (2, 0));
    }

    #[test]
    fn bytes_that_are_none_are_refused() {
        let encode = |plain: &[u8]| zstd::bulk::compress(plain, 1).unwrap();
        let with = |published: u32, removed: u32, hashes: &[u8]| {
            encode(&[&MAGIC[..], &published.to_le_bytes(), &removed.to_le_bytes(), hashes].concat())
        };
        let twice = [[1; HASH], [1; HASH]].concat();
        for (bytes, error) in [
            (b"".to_vec(), SegmentError::Head),
            (b"no frame".to_vec(), SegmentError::Frame),
            (encode(b"harmidx1"), SegmentError::Head),
            (encode(&[0; HEAD]), SegmentError::Head),
            (with(1, 0, b""), SegmentError::Head),
            (with(0, 0, &[0; HASH]), SegmentError::Head),
            (with(u32::MAX, u32::MAX, &[0; HASH]), SegmentError::Head),
            (with(2, 0, &twice), SegmentError::Order),
            (with(1, 1, &twice), SegmentError::Order),
            (with(2, 0, &[[2; HASH], [1; HASH]].concat()), SegmentError::Order),
            (encode(&vec![0; MAX_PLAIN + 1]), SegmentError::Frame),
            (vec![0; MAX_SEGMENT + 1], SegmentError::Frame),
        ] {
            assert_eq!(Segment::decode(&bytes), Err(error));
        }
        let mut broken = Segment { published: [part([7; HASH])].into(), removed: BTreeSet::new() }.encode().unwrap();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert_eq!(Segment::decode(&broken), Err(SegmentError::Frame));
    }

    #[test]
    fn a_full_segment_takes_no_more_and_can_be_read() {
        let mut segment = Segment::default();
        for number in 0..MAX_PATHS as u64 {
            let mut bytes = [0; HASH];
            // Spread, so that they do not compress.
            for (at, chunk) in (0..).zip(bytes.chunks_mut(8)) {
                let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(at * 7);
                chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
            }
            assert!(segment.publish(part(bytes)));
        }
        let another = part([0xEE; HASH]);
        assert!(!segment.publish(another) && !segment.remove(another));
        let encoded = segment.encode().unwrap();
        assert!(encoded.len() <= MAX_SEGMENT);
        assert_eq!(Segment::decode(&encoded), Ok(segment));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(changes in vec((any::<[u8; HASH]>(), any::<bool>()), 0..64)) {
            let mut segment = Segment::default();
            for (bytes, is_published) in changes {
                let path = part(bytes);
                let has_room = if is_published { segment.publish(path) } else { segment.remove(path) };
                prop_assert!(has_room);
            }
            prop_assert_eq!(Segment::decode(&segment.encode().unwrap()), Ok(segment));
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..256)) {
            let _ = Segment::decode(&bytes);
            let _ = Segment::decode(&zstd::bulk::compress(&bytes, 1).unwrap());
        }

        #[test]
        fn what_is_read_is_written_the_same(published in 0u32..4, removed in 0u32..4, hashes in vec(any::<[u8; HASH]>(), 0..8)) {
            let plain = [&MAGIC[..], &published.to_le_bytes(), &removed.to_le_bytes(), hashes.as_flattened()].concat();
            if let Ok(segment) = Segment::decode(&zstd::bulk::compress(&plain, 1).unwrap()) {
                let written = zstd::bulk::decompress(&segment.encode().unwrap(), MAX_PLAIN).unwrap();
                prop_assert_eq!(written, plain);
            }
        }
    }
}
