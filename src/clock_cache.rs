//! A map that is bounded in bytes: what has not been used for longest goes first, or nearly so.
//!
//! Owns the choice of what goes. Leaves what a value weighs to whoever puts it in, and locking as well.
//!
//! The order is that of a clock: each value has a mark that its use sets, and a hand that goes round takes marks away and
//! the first value that has none. A use costs one look into the map and moves nothing.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// Bytes that the map itself needs for a value beside its slot: its place in the table, and room to grow.
const OVERHEAD: usize = 32;

/// Values by their keys, up to a number of bytes in all.
#[derive(Debug)]
pub struct ClockCache<K, V> {
    max_bytes: usize,
    bytes: usize,
    slots: Vec<Slot<K, V>>,
    /// Slots by the hashes of their keys: the keys themselves are in the slots alone.
    places: HashTable<usize>,
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
    /// An empty map. With a bound of 0 it stays empty.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let (slots, places, hasher) = (Vec::new(), HashTable::new(), RandomState::new());
        Self { max_bytes, bytes: 0, slots, places, hasher, hand: 0 }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What all of them weigh.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Looks without a use.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.place(key).map(|place| &self.slots[place].value)
    }

    /// Up to `count` values that are not at the places from `end` on, without a use, and where the next ones end; nothing
    /// after the first places. Who looks through all of them so, from [`Self::len`] on, misses none that stays, whatever is put
    /// in and taken out in between.
    pub fn before(&self, end: usize, count: usize) -> (impl Iterator<Item = &V>, usize) {
        let end = end.min(self.slots.len());
        let first = end.saturating_sub(count);
        (self.slots[first..end].iter().map(|slot| &slot.value), first)
    }

    /// The value of this key, which is used thereby.
    pub fn find(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        let slot = &mut self.slots[place];
        slot.is_used = true;
        Some(&mut slot.value)
    }

    /// Puts a value in, in place of another of this key, and makes room for it. `heap` is what it holds beside its own
    /// size, in bytes. One that alone is too large is not kept, nor is what it replaces.
    pub fn insert(&mut self, key: K, value: V, heap: usize) {
        let was_used = self.remove(&key);
        let bytes = heap + size_of::<Slot<K, V>>() + OVERHEAD;
        if bytes > self.max_bytes {
            return;
        }
        self.make_room(bytes);
        self.bytes += bytes;
        let Self { slots, places, hasher, .. } = self;
        places.insert_unique(hasher.hash_one(key), slots.len(), |place| hasher.hash_one(slots[*place].key));
        if slots.len() == slots.capacity() {
            // By itself it would double, and half of it lie idle.
            slots.reserve_exact(slots.len() / 8 + 8);
        }
        slots.push(Slot { key, value, bytes, is_used: was_used });
    }

    /// The value of this key holds `heap` bytes from now on, beside its own size. Makes room for it, perhaps by taking out
    /// that very value.
    pub fn reweigh(&mut self, key: &K, heap: usize) {
        let Some(place) = self.place(key) else { return };
        let slot = &mut self.slots[place];
        let bytes = heap + size_of::<Slot<K, V>>() + OVERHEAD;
        self.bytes = self.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        self.make_room(0);
    }

    /// Takes a value out; whether it had been used of late.
    pub fn remove(&mut self, key: &K) -> bool {
        let Self { slots, places, hasher, .. } = self;
        let Ok(entry) = places.find_entry(hasher.hash_one(key), |place| slots[*place].key == *key) else {
            return false;
        };
        let (place, _) = entry.remove();
        let removed = slots.swap_remove(place);
        if let Some(moved) = slots.get(place) {
            let last = slots.len();
            if let Some(its_place) = places.find_mut(hasher.hash_one(moved.key), |place| *place == last) {
                *its_place = place;
            }
        }
        self.bytes -= removed.bytes;
        removed.is_used
    }

    fn place(&self, key: &K) -> Option<usize> {
        self.places.find(self.hasher.hash_one(key), |place| self.slots[*place].key == *key).copied()
    }

    fn make_room(&mut self, bytes: usize) {
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

    /// What one value weighs that holds nothing else.
    fn alone() -> usize {
        let mut map = ClockCache::new(usize::MAX);
        map.insert(0_u8, 0_u8, 0);
        map.bytes()
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
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
    fn what_is_too_large_is_not_kept_nor_what_it_replaces() {
        let mut map = ClockCache::new(2 * alone());
        map.insert(1_u8, 1_u8, 0);
        map.insert(2, 2, 0);
        map.insert(1, 7, 2 * alone());
        assert_eq!((map.peek(&1), map.peek(&2)), (None, Some(&2)));
        let mut none = ClockCache::new(0);
        none.insert(1_u8, 1_u8, 0);
        assert!(none.is_empty() && none.bytes() == 0);
    }

    #[test]
    fn who_looks_through_all_misses_none_that_stays() {
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
            // The last one comes in its place.
            map.remove(&removed);
            map.insert(100 + removed, 0, 0);
            removed += 1;
        }
        assert!((removed..100).all(|key| seen.contains(&key)), "{seen:?}");
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_nothing_that_is_found_is_another(
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
                prop_assert_eq!(map.places.len(), map.len());
                for (place, slot) in map.slots.iter().enumerate() {
                    prop_assert_eq!(map.place(&slot.key), Some(place));
                    prop_assert_eq!(Some(&slot.value), model.get(&slot.key));
                }
            }
        }
    }
}
