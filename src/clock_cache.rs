//! A cache with a limit in bytes and CLOCK eviction, an approximation of LRU.
//!
//! Each entry has a flag that is set when it is used. The clock hand clears flags until it finds an entry without one, and
//! evicts it. So a lookup is a single hash table access and moves nothing. Callers provide the size of values, and locking.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// Bytes of an entry beside its slot: its index in the hash table, and spare capacity.
const OVERHEAD: usize = 32;

/// Values by key, up to a total size in bytes.
#[derive(Debug)]
pub(crate) struct ClockCache<K, V> {
    max_bytes: usize,
    bytes: usize,
    slots: Vec<Slot<K, V>>,
    /// Indexes of slots, by hash of the key. Keys are stored in the slots only.
    index: HashTable<usize>,
    hasher: RandomState,
    hand: usize,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    bytes: usize,
    is_used: bool,
}

impl<K: Copy + Eq + Hash, V> ClockCache<K, V> {
    /// Creates an empty cache. With a limit of 0 it stays empty.
    #[must_use]
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (slots, index, hasher) = (Vec::new(), HashTable::new(), RandomState::new());
        Self { max_bytes, bytes: 0, slots, index, hasher, hand: 0 }
    }

    /// Returns the number of entries.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the total size in bytes.
    #[must_use]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the value of a key, without marking it as used.
    #[must_use]
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.position(key).map(|position| &self.slots[position].value)
    }

    /// Returns up to `count` values at positions below `end`, without marking them as used, and the position of the first of
    /// them, which is the `end` of the next call, or 0 at the end. A scan from [`Self::len`] down misses no entry that stays,
    /// whatever is inserted and removed in between.
    pub(crate) fn before(&self, end: usize, count: usize) -> (impl Iterator<Item = &V>, usize) {
        let end = end.min(self.slots.len());
        let first = end.saturating_sub(count);
        (self.slots[first..end].iter().map(|slot| &slot.value), first)
    }

    /// Returns the value of a key, and marks it as used.
    pub(crate) fn find(&mut self, key: &K) -> Option<&mut V> {
        let position = self.position(key)?;
        let slot = &mut self.slots[position];
        slot.is_used = true;
        Some(&mut slot.value)
    }

    /// Inserts a value, replaces that of the same key, and evicts others as needed. `heap` is the heap memory of the value, in
    /// bytes. A value larger than the whole cache is dropped, and so is the one that it replaces.
    pub(crate) fn insert(&mut self, key: K, value: V, heap: usize) {
        let was_used = self.remove(&key);
        let bytes = heap + size_of::<Slot<K, V>>() + OVERHEAD;
        if bytes > self.max_bytes {
            return;
        }
        self.evict_to_fit(bytes);
        self.bytes += bytes;
        let Self { slots, index, hasher, .. } = self;
        index.insert_unique(hasher.hash_one(key), slots.len(), |position| hasher.hash_one(slots[*position].key));
        if slots.len() == slots.capacity() {
            // The default growth doubles the capacity, half of which would be unused.
            slots.reserve_exact(slots.len() / 8 + 8);
        }
        slots.push(Slot { key, value, bytes, is_used: was_used });
    }

    /// Changes the heap memory of a value, in bytes, and evicts entries as needed, possibly this one.
    pub(crate) fn reweigh(&mut self, key: &K, heap: usize) {
        let Some(position) = self.position(key) else { return };
        let slot = &mut self.slots[position];
        let bytes = heap + size_of::<Slot<K, V>>() + OVERHEAD;
        self.bytes = self.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        self.evict_to_fit(0);
    }

    /// Removes a value. Returns whether it was marked as used.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Self { slots, index, hasher, .. } = self;
        let Ok(entry) = index.find_entry(hasher.hash_one(key), |position| slots[*position].key == *key) else {
            return false;
        };
        let (position, _) = entry.remove();
        let removed = slots.swap_remove(position);
        if let Some(moved) = slots.get(position) {
            let last = slots.len();
            if let Some(its_position) = index.find_mut(hasher.hash_one(moved.key), |position| *position == last) {
                *its_position = position;
            }
        }
        self.bytes -= removed.bytes;
        removed.is_used
    }

    fn position(&self, key: &K) -> Option<usize> {
        self.index.find(self.hasher.hash_one(key), |position| self.slots[*position].key == *key).copied()
    }

    fn evict_to_fit(&mut self, bytes: usize) {
        while self.bytes + bytes > self.max_bytes {
            self.evict();
        }
    }

    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            if !std::mem::take(&mut slot.is_used) {
                let key = slot.key;
                self.remove(&key);
                return;
            }
            self.hand += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    /// Returns the size of an entry without heap memory.
    fn alone() -> usize {
        let mut map = ClockCache::new(usize::MAX);
        map.insert(0_u8, 0_u8, 0);
        map.bytes()
    }

    #[test]
    fn used_entries_stay_and_unused_ones_are_evicted() {
        let mut map = ClockCache::new(3 * alone());
        for key in 0..3 {
            map.insert(key, key, 0);
        }
        for new in 3..100_u8 {
            assert_eq!(map.find(&1), Some(&mut 1), "gone when {} came", new - 1);
            map.insert(new, new, 0);
            assert_eq!(map.len(), 3);
        }
    }

    #[test]
    fn a_value_that_is_too_large_is_dropped_with_the_one_that_it_replaces() {
        let mut map = ClockCache::new(2 * alone());
        map.insert(1_u8, 1_u8, 0);
        map.insert(2, 2, 0);
        map.insert(1, 7, 2 * alone());
        assert_eq!((map.peek(&1), map.peek(&2)), (None, Some(&2)));
        let mut none = ClockCache::new(0);
        none.insert(1_u8, 1_u8, 0);
        assert!(none.len() == 0 && none.bytes() == 0);
    }

    #[test]
    fn a_scan_misses_no_entry_that_stays() {
        let mut map = ClockCache::new(usize::MAX);
        for key in 0..100_u8 {
            map.insert(key, key, 0);
        }
        let (mut seen, mut end) = (std::collections::BTreeSet::new(), usize::MAX);
        let mut removed = 0;
        while end > 0 {
            let (values, first) = map.before(end, 7);
            seen.extend(values.copied());
            end = first;
            // The last entry moves to its position.
            map.remove(&removed);
            map.insert(100 + removed, 0, 0);
            removed += 1;
        }
        assert!((removed..100).all(|key| seen.contains(&key)), "{seen:?}");
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_lookups_return_the_value_inserted_last(
            max in 0_usize..4096,
            steps in prop::collection::vec((0_u8..4, 0_u8..32, 0_usize..600), 0..200),
        ) {
            let mut map = ClockCache::new(max);
            let mut model = HashMap::new();
            for (step, (kind, key, heap)) in steps.into_iter().enumerate() {
                match kind {
                    0 => {
                        map.insert(key, step, heap);
                        model.insert(key, step);
                    }
                    1 => {
                        map.remove(&key);
                        model.remove(&key);
                        prop_assert_eq!(map.peek(&key), None);
                    }
                    2 => map.reweigh(&key, heap),
                    _ => if let Some(found) = map.find(&key) {
                        prop_assert_eq!(Some(&*found), model.get(&key));
                    },
                }
                prop_assert!(map.bytes() <= max);
                prop_assert_eq!(map.bytes(), map.slots.iter().map(|slot| slot.bytes).sum::<usize>());
                prop_assert_eq!(map.index.len(), map.len());
                for (position, slot) in map.slots.iter().enumerate() {
                    prop_assert_eq!(map.position(&slot.key), Some(position));
                    prop_assert_eq!(Some(&slot.value), model.get(&slot.key));
                }
            }
        }
    }
}
