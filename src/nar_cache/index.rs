//! What is on disk, and in which order it was used.
//!
//! Owns the arithmetic of room: which entries leave when there are too many bytes. Does nothing to files.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use super::encoding::EncodingTag;
use super::entry::FileInfo;

/// The part of all room that files have which nobody has fetched, where there is not enough for all.
const UNFETCHED_PART: u64 = 8;
/// What a file takes beside its bytes: disks give room in pieces, and each entry here takes memory. With it a cache of
/// 10 GiB has at most 640,000 entries.
const LEAST: u64 = 16 << 10;

/// Which compressed NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) tag: Arc<EncodingTag>,
    pub(super) nar_hash: NarHash,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Few NARs are there in two encodings, and every narinfo is looked for.
        self.nar_hash.hash(state);
    }
}

#[derive(Debug)]
struct Held {
    info: FileInfo,
    used: u64,
    is_unfetched: bool,
}

/// The entries of a cache, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: HashMap<Key, Held>,
    order: BTreeMap<u64, Key>,
    /// Apart from those: files that were made ahead and that nobody has fetched, and the room that they take.
    unfetched: BTreeMap<u64, Key>,
    unfetched_bytes: u64,
    clock: u64,
    bytes: u64,
    /// What fills may come to at the most, and what they have written, in bytes.
    reserved: u64,
    written: u64,
}

impl Index {
    /// Enters a file, as the one that was used last.
    pub(super) fn insert(&mut self, key: &Key, info: FileInfo) {
        self.enter(key, info, false);
    }

    /// Enters a file that nobody has fetched: it leaves before others, see [`Self::make_room`].
    pub(super) fn insert_unfetched(&mut self, key: &Key, info: FileInfo) {
        self.enter(key, info, true);
    }

    fn enter(&mut self, key: &Key, info: FileInfo, is_unfetched: bool) {
        self.remove(key);
        self.bytes += weight(info);
        self.clock += 1;
        if is_unfetched {
            self.unfetched_bytes += weight(info);
            self.unfetched.insert(self.clock, key.clone());
        } else {
            self.order.insert(self.clock, key.clone());
        }
        self.held.insert(key.clone(), Held { info, used: self.clock, is_unfetched });
    }

    /// What is known of a file.
    pub(super) fn info(&self, key: &Key) -> Option<FileInfo> {
        self.held.get(key).map(|held| held.info)
    }

    /// Takes note that a file is used.
    pub(super) fn touch(&mut self, key: &Key) {
        if let Some(info) = self.info(key) {
            self.enter(key, info, false);
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
            self.bytes -= weight(held.info);
            if held.is_unfetched {
                self.unfetched.remove(&held.used);
                self.unfetched_bytes -= weight(held.info);
            } else {
                self.order.remove(&held.used);
            }
        }
    }

    /// Forgets the least recently used files until the others fit into `max_bytes` with what fills have written: these have
    /// to go. What was made ahead takes no more than an eighth from what was fetched.
    pub(super) fn make_room(&mut self, max_bytes: u64) -> Vec<Key> {
        let mut gone = Vec::new();
        while self.bytes.saturating_add(self.written) > max_bytes {
            let (fetched, unfetched) = (self.order.values().next(), self.unfetched.values().next());
            let is_much = self.unfetched_bytes > max_bytes / UNFETCHED_PART;
            let oldest = if is_much { unfetched.or(fetched) } else { fetched.or(unfetched) };
            let Some(key) = oldest.cloned() else { break };
            self.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// Forgets the least recently used files that take so many bytes together, or all.
    pub(super) fn give_back(&mut self, bytes: u64) -> Vec<Key> {
        self.make_room(self.bytes.saturating_add(self.written).saturating_sub(bytes))
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
    fn where_the_disk_lacks_room_the_oldest_make_way_whatever_is_allowed() {
        let mut index = Index::default();
        for number in 0..4 {
            index.insert(&key(number), info(1000));
        }
        assert_eq!(index.give_back(1), [key(0)]);
        assert_eq!(index.give_back(weight(info(1000)) + 1), [key(1), key(2)]);
        assert_eq!(index.give_back(u64::MAX), [key(3)]);
    }

    #[test]
    fn what_was_made_ahead_takes_an_eighth_from_what_was_fetched() {
        let mut index = Index::default();
        let one = weight(info(0));
        for number in 0..16 {
            index.insert(&key(number), info(0));
        }
        for number in 16..48 {
            index.insert_unfetched(&key(number), info(0));
            index.make_room(16 * one);
        }
        let there: Vec<_> = (0..48).filter(|number| index.info(&key(*number)).is_some()).collect();
        assert_eq!(there, (2..16).chain(46..48).collect::<Vec<_>>());
        // Once it is fetched it is like any other.
        index.touch(&key(46));
        assert_eq!((index.unfetched_bytes, index.order.len()), (one, 15));
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
                        if size % 3 == 0 {
                            index.insert_unfetched(&key(number), info(size));
                        } else {
                            index.insert(&key(number), info(size));
                        }
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
                prop_assert_eq!(index.order.len() + index.unfetched.len(), model.len());
            }
        }
    }
}
