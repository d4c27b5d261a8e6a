//! What is on disk, and in which order it was used.
//!
//! Owns the arithmetic of room: which entries leave when there are too many bytes. Does nothing to files.

use std::collections::{BTreeMap, HashMap};

use super::entry::FileInfo;
use super::key::EntryKey;

/// The part of all room that files have which nobody has fetched, where there is not enough for all.
const UNFETCHED_PART: u64 = 8;
/// What a file takes beside its bytes: disks give room in pieces, and each entry here takes memory. With it a cache of
/// 10 GiB has at most 640,000 entries.
const LEAST: u64 = 16 << 10;

#[derive(Debug)]
struct Slot {
    info: FileInfo,
    used: u64,
    is_unfetched: bool,
}

/// The entries of a cache, the least recently used first.
#[derive(Debug, Default)]
pub(crate) struct Lru {
    entries: HashMap<EntryKey, Slot>,
    order: BTreeMap<u64, EntryKey>,
    /// Apart from those: files that were made ahead and that nobody has fetched, and the room that they take.
    unfetched: BTreeMap<u64, EntryKey>,
    unfetched_bytes: u64,
    clock: u64,
    bytes: u64,
    /// What fills may come to at the most, and what they have written, in bytes.
    reserved: u64,
    written: u64,
}

impl Lru {
    /// Enters a file, as the one that was used last.
    pub(crate) fn insert(&mut self, key: &EntryKey, info: FileInfo) {
        self.enter(key, info, false);
    }

    /// Enters a file that nobody has fetched: it leaves before others, see [`Self::evict_to_fit`].
    pub(crate) fn insert_unfetched(&mut self, key: &EntryKey, info: FileInfo) {
        self.enter(key, info, true);
    }

    fn enter(&mut self, key: &EntryKey, info: FileInfo, is_unfetched: bool) {
        self.remove(key);
        self.bytes += charge(info);
        self.clock += 1;
        if is_unfetched {
            self.unfetched_bytes += charge(info);
            self.unfetched.insert(self.clock, key.clone());
        } else {
            self.order.insert(self.clock, key.clone());
        }
        self.entries.insert(key.clone(), Slot { info, used: self.clock, is_unfetched });
    }

    /// What is known of a file.
    pub(crate) fn info(&self, key: &EntryKey) -> Option<FileInfo> {
        self.entries.get(key).map(|slot| slot.info)
    }

    /// Takes note that a file is used.
    pub(crate) fn touch(&mut self, key: &EntryKey) {
        if let Some(info) = self.info(key) {
            self.enter(key, info, false);
        }
    }

    /// Reserves room for a fill; whether there is that beside other fills. Files leave only as it is written to.
    pub(crate) fn reserve(&mut self, max_bytes: u64, bytes: u64) -> bool {
        let fits = self.reserved.saturating_add(bytes) <= max_bytes;
        self.reserved += if fits { bytes } else { 0 };
        fits
    }

    /// A fill that has a reservation is about to write more.
    pub(crate) const fn grow(&mut self, more: u64) {
        self.written += more;
    }

    /// A fill is over, with whatever it has written.
    pub(crate) const fn release(&mut self, bytes: u64, written: u64) {
        self.reserved -= bytes;
        self.written -= written;
    }

    /// Forgets a file.
    pub(crate) fn remove(&mut self, key: &EntryKey) {
        if let Some(slot) = self.entries.remove(key) {
            self.bytes -= charge(slot.info);
            if slot.is_unfetched {
                self.unfetched.remove(&slot.used);
                self.unfetched_bytes -= charge(slot.info);
            } else {
                self.order.remove(&slot.used);
            }
        }
    }

    /// Forgets the least recently used files until the others fit into `max_bytes` with what fills have written: these have
    /// to go. What was made ahead takes no more than an eighth from what was fetched.
    pub(crate) fn evict_to_fit(&mut self, max_bytes: u64) -> Vec<EntryKey> {
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
    pub(crate) fn evict_bytes(&mut self, bytes: u64) -> Vec<EntryKey> {
        self.evict_to_fit(self.bytes.saturating_add(self.written).saturating_sub(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The room that all take.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn charge(info: FileInfo) -> u64 {
    info.size.saturating_add(LEAST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use harmonia_protocol::hash::NarHash;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> EntryKey {
        EntryKey { tag: Arc::new("zstd1".parse().unwrap()), nar_hash: NarHash::from_digest([number; 32]) }
    }

    fn info(size: u64) -> FileInfo {
        FileInfo { sha256: [0; 32], size }
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let mut lru = Lru::default();
        for number in 0..4 {
            lru.insert(&key(number), info(1000));
        }
        lru.touch(&key(0));
        let room = 2 * charge(info(1000));
        assert_eq!(lru.evict_to_fit(room), [key(1), key(2)]);
        assert_eq!((lru.len(), lru.bytes()), (2, room));
        assert!(lru.info(&key(0)).is_some() && lru.info(&key(1)).is_none());
        assert!(lru.reserve(room, 10));
        assert!(lru.evict_to_fit(room).is_empty(), "nothing has been written");
        lru.grow(1);
        assert_eq!(lru.evict_to_fit(room), [key(3)]);
        assert_eq!(lru.evict_to_fit(0), [key(0)]);
        assert!(lru.evict_to_fit(0).is_empty());
    }

    #[test]
    fn where_the_disk_lacks_room_the_oldest_make_way_whatever_is_allowed() {
        let mut lru = Lru::default();
        for number in 0..4 {
            lru.insert(&key(number), info(1000));
        }
        assert_eq!(lru.evict_bytes(1), [key(0)]);
        assert_eq!(lru.evict_bytes(charge(info(1000)) + 1), [key(1), key(2)]);
        assert_eq!(lru.evict_bytes(u64::MAX), [key(3)]);
    }

    #[test]
    fn what_was_made_ahead_takes_an_eighth_from_what_was_fetched() {
        let mut lru = Lru::default();
        let one = charge(info(0));
        for number in 0..16 {
            lru.insert(&key(number), info(0));
        }
        for number in 16..48 {
            lru.insert_unfetched(&key(number), info(0));
            lru.evict_to_fit(16 * one);
        }
        let there: Vec<_> = (0..48).filter(|number| lru.info(&key(*number)).is_some()).collect();
        assert_eq!(there, (2..16).chain(46..48).collect::<Vec<_>>());
        // Once it is fetched it is like any other.
        lru.touch(&key(46));
        assert_eq!((lru.unfetched_bytes, lru.order.len()), (one, 15));
    }

    #[test]
    fn fills_reserve_no_more_than_there_is() {
        let mut lru = Lru::default();
        assert!(lru.reserve(100, 60) && !lru.reserve(100, 41) && lru.reserve(100, 40));
        lru.grow(30);
        lru.release(60, 30);
        assert!(lru.reserve(100, 60) && !lru.reserve(100, u64::MAX));
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_what_is_there(steps in prop::collection::vec((0_u8..8, 0_u64..100_000, 0_u8..3), 0..60)) {
            let mut lru = Lru::default();
            let mut model = HashMap::new();
            for (number, size, what) in steps {
                match what {
                    0 => {
                        if size % 3 == 0 {
                            lru.insert_unfetched(&key(number), info(size));
                        } else {
                            lru.insert(&key(number), info(size));
                        }
                        model.insert(number, size);
                    }
                    1 => {
                        lru.remove(&key(number));
                        model.remove(&number);
                    }
                    _ => for gone in lru.evict_to_fit(2 * size) {
                        model.remove(&gone.nar_hash.as_bytes()[0]);
                    },
                }
                let bytes: u64 = model.values().map(|size| charge(info(*size))).sum();
                prop_assert_eq!((lru.len(), lru.bytes()), (model.len(), bytes));
                prop_assert_eq!(lru.order.len() + lru.unfetched.len(), model.len());
            }
        }
    }
}
