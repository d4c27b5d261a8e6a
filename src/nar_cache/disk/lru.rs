//! The entries on disk in the order of their use, and the bytes that they and running fills take.
//!
//! Decides which entries are evicted when there are too many bytes. Does not touch files.

use std::collections::{BTreeMap, HashMap};

use super::entry::FileInfo;
use super::key::EntryKey;

/// Divisor of the cache's size: files that nobody has fetched may displace fetched ones up to that part.
const UNFETCHED_PART: u64 = 8;
/// Bytes that count for a file in addition to its size, because disks allocate in blocks and each entry here takes memory.
/// With it a cache of 10 GiB has at most 640,000 entries.
const OVERHEAD: u64 = 16 << 10;

#[derive(Debug)]
struct Slot {
    info: FileInfo,
    used: u64,
    is_unfetched: bool,
}

/// The entries of a cache in the order of their use.
#[derive(Debug, Default)]
pub(crate) struct Lru {
    entries: HashMap<EntryKey, Slot>,
    /// Entries that were fetched, by the time of their last use.
    fetched: BTreeMap<u64, EntryKey>,
    /// Entries that were precompressed and that nobody has fetched, and their bytes.
    unfetched: BTreeMap<u64, EntryKey>,
    unfetched_bytes: u64,
    /// Entries by the hash of their file, if they are looked up by that.
    by_file: Option<HashMap<[u8; 32], EntryKey>>,
    clock: u64,
    bytes: u64,
    /// Bytes that running fills may write, and bytes that they have written.
    reserved: u64,
    written: u64,
}

impl Lru {
    /// Inserts a file as the most recently used one.
    pub(crate) fn insert(&mut self, key: &EntryKey, info: FileInfo) {
        self.add(key, info, false);
    }

    /// Inserts a file that nobody has fetched, which is evicted before others: see [`Self::evict_to_fit`].
    pub(crate) fn insert_unfetched(&mut self, key: &EntryKey, info: FileInfo) {
        self.add(key, info, true);
    }

    fn add(&mut self, key: &EntryKey, info: FileInfo, is_unfetched: bool) {
        self.remove(key);
        self.bytes += charge(info);
        self.clock += 1;
        if is_unfetched {
            self.unfetched_bytes += charge(info);
            self.unfetched.insert(self.clock, key.clone());
        } else {
            self.fetched.insert(self.clock, key.clone());
        }
        if let Some(by_file) = &mut self.by_file {
            by_file.insert(info.sha256, key.clone());
        }
        self.entries.insert(key.clone(), Slot { info, used: self.clock, is_unfetched });
    }

    /// Lets entries that are inserted from now on be found by the hash of their file.
    pub(crate) fn index_files(&mut self) {
        self.by_file.get_or_insert_default();
    }

    /// Returns the key of an entry with this file.
    pub(crate) fn find_by_file(&self, sha256: &[u8; 32]) -> Option<EntryKey> {
        self.by_file.as_ref()?.get(sha256).cloned()
    }

    /// Returns hash and size of an entry.
    pub(crate) fn info(&self, key: &EntryKey) -> Option<FileInfo> {
        self.entries.get(key).map(|slot| slot.info)
    }

    /// Marks a file as used now.
    pub(crate) fn touch(&mut self, key: &EntryKey) {
        if let Some(info) = self.info(key) {
            self.add(key, info, false);
        }
    }

    /// Reserves bytes for a fill. Returns whether they fit beside other fills. Files are evicted only as the fill writes.
    pub(crate) fn reserve(&mut self, max_bytes: u64, bytes: u64) -> bool {
        let fits = self.reserved.saturating_add(bytes) <= max_bytes;
        self.reserved += if fits { bytes } else { 0 };
        fits
    }

    /// Counts bytes that a fill is about to write.
    pub(crate) const fn grow(&mut self, more: u64) {
        self.written += more;
    }

    /// Ends the reservation of a fill.
    pub(crate) const fn release(&mut self, bytes: u64, written: u64) {
        self.reserved -= bytes;
        self.written -= written;
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: &EntryKey) {
        if let Some(slot) = self.entries.remove(key) {
            if let Some(by_file) = self.by_file.as_mut().filter(|it| it.get(&slot.info.sha256) == Some(key)) {
                by_file.remove(&slot.info.sha256);
            }
            self.bytes -= charge(slot.info);
            if slot.is_unfetched {
                self.unfetched.remove(&slot.used);
                self.unfetched_bytes -= charge(slot.info);
            } else {
                self.fetched.remove(&slot.used);
            }
        }
    }

    /// Removes and returns the least recently used entries until the others fit into `max_bytes` together with the bytes that
    /// fills have written. Unfetched entries displace fetched ones only up to an eighth of the cache.
    pub(crate) fn evict_to_fit(&mut self, max_bytes: u64) -> Vec<EntryKey> {
        let mut evicted = Vec::new();
        while self.bytes.saturating_add(self.written) > max_bytes {
            let (fetched, unfetched) = (self.fetched.values().next(), self.unfetched.values().next());
            let exceeds_share = self.unfetched_bytes > max_bytes / UNFETCHED_PART;
            let oldest = if exceeds_share { unfetched.or(fetched) } else { fetched.or(unfetched) };
            let Some(key) = oldest.cloned() else { break };
            self.remove(&key);
            evicted.push(key);
        }
        evicted
    }

    /// Removes and returns the least recently used entries that take `bytes` together, or all.
    pub(crate) fn evict_bytes(&mut self, bytes: u64) -> Vec<EntryKey> {
        self.evict_to_fit(self.bytes.saturating_add(self.written).saturating_sub(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the bytes that count for all entries.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn charge(info: FileInfo) -> u64 {
    info.size.saturating_add(OVERHEAD)
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
        let max_bytes = 2 * charge(info(1000));
        assert_eq!(lru.evict_to_fit(max_bytes), [key(1), key(2)]);
        assert_eq!((lru.len(), lru.bytes()), (2, max_bytes));
        assert!(lru.info(&key(0)).is_some() && lru.info(&key(1)).is_none());
        assert!(lru.reserve(max_bytes, 10));
        assert!(lru.evict_to_fit(max_bytes).is_empty(), "nothing has been written");
        lru.grow(1);
        assert_eq!(lru.evict_to_fit(max_bytes), [key(3)]);
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
        assert_eq!((lru.unfetched_bytes, lru.fetched.len()), (one, 15));
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
                prop_assert_eq!(lru.fetched.len() + lru.unfetched.len(), model.len());
            }
        }
    }
}
