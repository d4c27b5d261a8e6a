//! Filter of the paths in the bucket: answers "not there" without a request, in memory of about ten bits for each path.
//!
//! A Bloom filter in layers. A layer that is full gets a successor of twice the size, so a filter can grow without knowing its
//! paths; one that is made anew from the segments has one layer. Removed paths stay in it until then. It never denies a
//! path that was added: when it may not grow any more, it affirms everything.
//!
//! The hash is seeded, so that nobody can look for hash parts that it takes for those of published paths.

use harmonia_protocol::HashPart;
use twox_hash::XxHash3_128;

/// Bits for each path, with which about one in a hundred others is taken for one.
const BITS_PER_PATH: usize = 10;
/// Bits of each path: ln 2 times the bits for each.
const PROBES: u64 = 7;
/// Paths of the smallest layer: 10 KiB.
const MIN_LAYER: usize = 8_192;
/// Upper bound of the paths of all layers together: 40 MB.
const MAX_PATHS: usize = 32 << 20;
/// Bits of a word.
const WORD: u64 = u64::BITS as u64;

/// Set of paths that may affirm one that is not in it, and never denies one that is.
#[derive(Debug)]
pub(crate) struct Filter {
    layers: Vec<Layer>,
    seed: u64,
    /// There were more paths than [`MAX_PATHS`].
    is_saturated: bool,
}

#[derive(Debug)]
struct Layer {
    bits: Box<[u64]>,
    /// Paths that it is made for.
    capacity: usize,
    /// Paths that were added.
    len: usize,
}

impl Filter {
    /// Creates an empty filter for about so many paths. The seed is secret.
    pub(crate) fn new(paths: usize, seed: u64) -> Self {
        let capacity = paths.clamp(MIN_LAYER, MAX_PATHS);
        Self { layers: vec![Layer::new(capacity)], seed, is_saturated: false }
    }

    /// Adds a path.
    pub(crate) fn insert(&mut self, path: &HashPart) {
        let hash = self.hash(path);
        if self.affirms(hash) {
            return;
        }
        let capacity: usize = self.layers.iter().map(|layer| layer.capacity).sum();
        match self.layers.last_mut() {
            Some(layer) if layer.len < layer.capacity => layer.insert(hash),
            _ if capacity < MAX_PATHS => {
                let mut layer = Layer::new(capacity.min(MAX_PATHS - capacity).max(MIN_LAYER));
                layer.insert(hash);
                self.layers.push(layer);
            }
            _ => self.is_saturated = true,
        }
    }

    /// Returns whether a path may be in it. `false` is certain.
    pub(crate) fn may_contain(&self, path: &HashPart) -> bool {
        self.affirms(self.hash(path))
    }

    /// Returns the number of different paths that were added, less those that were taken for one of the others.
    pub(crate) fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.len).sum()
    }

    /// Returns the memory of its bits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| size_of_val(&*layer.bits)).sum()
    }

    fn affirms(&self, hash: u128) -> bool {
        self.is_saturated || self.layers.iter().any(|layer| layer.contains(hash))
    }

    fn hash(&self, path: &HashPart) -> u128 {
        XxHash3_128::oneshot_with_seed(self.seed, path.as_str().as_bytes())
    }
}

impl Layer {
    fn new(capacity: usize) -> Self {
        let words = (capacity * BITS_PER_PATH).div_ceil(u64::BITS as usize);
        Self { bits: vec![0; words].into(), capacity, len: 0 }
    }

    fn insert(&mut self, hash: u128) {
        for bit in self.probes(hash) {
            if let Some(word) = self.bits.get_mut(word_of(bit)) {
                *word |= 1 << (bit % WORD);
            }
        }
        self.len += 1;
    }

    fn contains(&self, hash: u128) -> bool {
        self.probes(hash).all(|bit| self.bits.get(word_of(bit)).is_some_and(|word| word & (1 << (bit % WORD)) != 0))
    }

    /// Returns the bits of a path: two halves of its hash, combined (Kirsch and Mitzenmacher, "Less hashing, same performance").
    fn probes(&self, hash: u128) -> impl Iterator<Item = u64> + use<> {
        let bits = self.bits.len() as u64 * WORD;
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of the hash")]
        let (first, second) = (hash as u64, (hash >> 64) as u64 | 1);
        // The upper half of a product is as evenly spread as its factor, and cheaper than a remainder.
        (0..PROBES).map(move |probe| {
            let mixed = first.wrapping_add(probe.wrapping_mul(second));
            u64::try_from((u128::from(mixed) * u128::from(bits)) >> 64).unwrap_or_default()
        })
    }
}

fn word_of(bit: u64) -> usize {
    usize::try_from(bit / WORD).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use harmonia_protocol::nix32;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn part(number: u64) -> HashPart {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        HashPart::from_str(&nix32::encode(&bytes)).unwrap()
    }

    fn wrong(filter: &Filter) -> usize {
        (0..20_000).filter(|number| filter.may_contain(&part(u64::MAX - number))).count()
    }

    #[test]
    fn ten_bits_a_path_are_wrong_for_one_in_a_hundred() {
        let mut filter = Filter::new(20_000, 1);
        (0..20_000).for_each(|number| filter.insert(&part(number)));
        assert!((0..20_000).all(|number| filter.may_contain(&part(number))));
        assert!(filter.bytes() <= 20_000 * 10 / 8 + 8, "{}", filter.bytes());
        assert!(wrong(&filter) < 20_000 * 15 / 1000, "{}", wrong(&filter));
    }

    #[test]
    fn it_grows_and_denies_none_of_its_paths() {
        let mut filter = Filter::new(0, 1);
        assert!(!filter.may_contain(&part(0)));
        (0..60_000).for_each(|number| filter.insert(&part(number)));
        assert!((0..60_000).all(|number| filter.may_contain(&part(number))));
        assert!(filter.layers.len() == 4 && filter.bytes() < 60_000 * 2 * 10 / 8);
        assert!(wrong(&filter) < 20_000 * 5 / 100, "{}", wrong(&filter));
        let before = (filter.len(), filter.bytes());
        (0..60_000).for_each(|number| filter.insert(&part(number)));
        assert_eq!((filter.len(), filter.bytes()), before, "adding again costs nothing");
    }

    #[test]
    fn a_filter_that_may_not_grow_affirms_everything() {
        let mut filter = Filter::new(0, 1);
        filter.layers[0].capacity = MAX_PATHS;
        filter.layers[0].len = MAX_PATHS;
        filter.insert(&part(1));
        assert!(filter.may_contain(&part(1)) && filter.may_contain(&part(2)));
    }

    #[test]
    fn another_seed_is_wrong_about_others() {
        let of = |seed| {
            let mut filter = Filter::new(8_192, seed);
            (0..8_192).for_each(|number| filter.insert(&part(number)));
            (0..20_000).filter(|number| filter.may_contain(&part(u64::MAX - number))).collect::<Vec<_>>()
        };
        assert_ne!(of(1), of(2));
    }

    proptest! {
        #[test]
        fn no_path_is_denied(numbers in vec(any::<u64>(), 0..500), capacity in 0usize..100, seed: u64) {
            let mut filter = Filter::new(capacity, seed);
            for number in &numbers {
                filter.insert(&part(*number));
            }
            for number in numbers {
                prop_assert!(filter.may_contain(&part(number)));
            }
        }
    }
}
