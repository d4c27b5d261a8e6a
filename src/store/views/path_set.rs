//! A set of numbered paths: one bit for each number up to the largest.
//!
//! A tenth of a hundred thousand paths takes 12.5 kB so. A compressed bit map would need as much, since a set this dense has
//! no gaps to leave out, and more time for each test.

/// Set of the numbers of paths.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PathSet {
    words: Vec<u64>,
}

const BITS: usize = u64::BITS as usize;

impl PathSet {
    /// Adds a number. Returns whether it is new.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = position(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    /// Returns whether it has this number.
    pub(crate) fn contains(&self, number: u32) -> bool {
        let (word, bit) = position(number);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds all numbers of another set.
    pub(crate) fn extend(&mut self, other: &Self) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Returns whether it has a number that the other set has not.
    pub(crate) fn exceeds(&self, other: &Self) -> bool {
        let rest = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter().zip(rest).any(|(ours, theirs)| ours & !theirs != 0)
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Releases memory that it does not need.
    pub(crate) fn shrink(&mut self) {
        self.words.shrink_to_fit();
    }

    /// Returns the memory it takes beside itself, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

const fn position(number: u32) -> (usize, u64) {
    (number as usize / BITS, 1 << (number % u64::BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &BTreeSet<u32>) -> PathSet {
        let mut set = PathSet::default();
        for number in numbers {
            assert!(set.insert(*number) && !set.insert(*number));
        }
        set
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::btree_set(0_u32..300, 0..40), b in prop::collection::btree_set(0_u32..300, 0..40)) {
            let (mut one, other) = (set(&a), set(&b));
            for number in 0..400 {
                prop_assert_eq!(one.contains(number), a.contains(&number));
            }
            prop_assert_eq!(one.len(), a.len());
            prop_assert_eq!(one.exceeds(&other), !a.is_subset(&b));
            one.extend(&other);
            prop_assert_eq!(one.len(), a.union(&b).count());
            prop_assert!(!other.exceeds(&one));
        }
    }
}
