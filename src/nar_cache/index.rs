//! What is on disk, and in which order it was used.
//!
//! Owns the arithmetic of room: which entries leave when there are too many bytes. Does nothing to files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use super::encoding::EncodingTag;
use super::entry::FileInfo;

/// What a file takes beside its bytes: disks give room in pieces, and each entry here takes memory. With it a cache of
/// 10 GiB has at most 640,000 entries.
const LEAST: u64 = 16 << 10;

/// Which compressed NAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tag: Arc<EncodingTag>,
    pub(super) nar_hash: NarHash,
}

#[derive(Debug)]
struct Held {
    info: FileInfo,
    used: u64,
}

/// The entries of a cache, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: HashMap<Key, Held>,
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: u64,
    /// What fills may come to at the most, and what they have written, in bytes.
    reserved: u64,
    written: u64,
}

impl Index {
    /// Enters a file, as the one that was used last.
    pub(super) fn insert(&mut self, key: &Key, info: FileInfo) {
        self.remove(key);
        self.bytes += weight(info);
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        self.held.insert(key.clone(), Held { info, used: self.clock });
    }

    /// What is known of a file.
    pub(super) fn info(&self, key: &Key) -> Option<FileInfo> {
        self.held.get(key).map(|held| held.info)
    }

    /// Takes note that a file is used.
    pub(super) fn touch(&mut self, key: &Key) {
        if let Some(held) = self.held.get_mut(key) {
            self.clock += 1;
            self.order.remove(&held.used);
            self.order.insert(self.clock, key.clone());
            held.used = self.clock;
        }
    }

    /// Reserves room for a fill; whether there is that beside other fills. Files leave only as it is written to.
    pub(super) fn reserve(&mut self, max_bytes: u64, bytes: u64) -> bool {
        let fits = self.reserved.saturating_add(bytes) <= max_bytes;
        self.reserved += if fits { bytes } else { 0 };
        fits
    }

    /// A fill that has a reservation is about to write more.
    pub(super) const fn grow(&mut self, more: u64) {
        self.written += more;
    }

    /// A fill is over, with whatever it has written.
    pub(super) const fn release(&mut self, bytes: u64, written: u64) {
        self.reserved -= bytes;
        self.written -= written;
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.order.remove(&held.used);
            self.bytes -= weight(held.info);
        }
    }

    /// Forgets the least recently used files until the others fit into `max_bytes` with what fills have written: these have
    /// to go.
    pub(super) fn make_room(&mut self, max_bytes: u64) -> Vec<Key> {
        let mut gone = Vec::new();
        while self.bytes.saturating_add(self.written) > max_bytes {
            let Some((_, key)) = self.order.first_key_value() else { break };
            let key = key.clone();
            self.remove(&key);
            gone.push(key);
        }
        gone
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The room that all take.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn weight(info: FileInfo) -> u64 {
    info.size.saturating_add(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> Key {
        Key { tag: Arc::new("zstd1".parse().unwrap()), nar_hash: NarHash::from_digest([number; 32]) }
    }

    fn info(size: u64) -> FileInfo {
        FileInfo { sha256: [0; 32], size }
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let mut index = Index::default();
        for number in 0..4 {
            index.insert(&key(number), info(1000));
        }
        index.touch(&key(0));
        let room = 2 * weight(info(1000));
        assert_eq!(index.make_room(room), [key(1), key(2)]);
        assert_eq!((index.len(), index.bytes()), (2, room));
        assert!(index.info(&key(0)).is_some() && index.info(&key(1)).is_none());
        assert!(index.reserve(room, 10));
        assert!(index.make_room(room).is_empty(), "nothing has been written");
        index.grow(1);
        assert_eq!(index.make_room(room), [key(3)]);
        assert_eq!(index.make_room(0), [key(0)]);
        assert!(index.make_room(0).is_empty());
    }

    #[test]
    fn fills_reserve_no_more_than_there_is() {
        let mut index = Index::default();
        assert!(index.reserve(100, 60) && !index.reserve(100, 41) && index.reserve(100, 40));
        index.grow(30);
        index.release(60, 30);
        assert!(index.reserve(100, 60) && !index.reserve(100, u64::MAX));
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_what_is_there(steps in prop::collection::vec((0_u8..8, 0_u64..100_000, 0_u8..3), 0..60)) {
            let mut index = Index::default();
            let mut model = HashMap::new();
            for (number, size, what) in steps {
                match what {
                    0 => {
                        index.insert(&key(number), info(size));
                        model.insert(number, size);
                    }
                    1 => {
                        index.remove(&key(number));
                        model.remove(&number);
                    }
                    _ => for gone in index.make_room(2 * size) {
                        model.remove(&gone.nar_hash.as_bytes()[0]);
                    },
                }
                let bytes: u64 = model.values().map(|size| weight(info(*size))).sum();
                prop_assert_eq!((index.len(), index.bytes()), (model.len(), bytes));
                prop_assert_eq!(index.order.len(), model.len());
            }
        }
    }
}
