//! The paths of all views, numbered, with their references: what nix-daemon has said once need not be asked again.
//!
//! References change only if a path is deleted and built anew. Then its path info is queried again for whoever requests it,
//! and [`PathTable::correct`] corrects what is known here.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{PoisonError, RwLock};

use harmonia_protocol::{HashPart, StorePath};

use crate::store::path_info::valid_path::CompactInfo;
use crate::store::views::path_set::PathSet;

/// Upper bound of paths in all views together, at some hundred bytes each: more than any store has.
pub(crate) const MAX_PATHS: usize = 4_000_000;

/// Reason why a path is not in the table: there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Numbered paths and their references.
#[derive(Debug, Default)]
pub(crate) struct PathTable {
    numbers: HashMap<HashPart, u32>,
    /// By number: numbers of the references; `None` if they are unknown, or the number is free.
    references: Vec<Option<Box<[u32]>>>,
    /// Paths whose references are unknown.
    unknown: HashMap<u32, StorePath>,
    /// Paths that a derivation built, as far as nix-daemon says so: its log is theirs.
    built_by: HashMap<HashPart, Vec<u32>>,
    free: Vec<u32>,
    /// Number of corrections, each of which may change every view.
    pub(crate) corrections: u64,
}

impl PathTable {
    /// Returns the number of the path with this hash part.
    pub(crate) fn number(&self, hash: HashPart) -> Option<u32> {
        self.numbers.get(&hash).copied()
    }

    /// Returns whether a set `has` the path with this hash part. For a path that is not in the table another one is looked
    /// at, with as many reads of memory that is not in the processor's caches: their time would tell which paths are in
    /// views of others.
    pub(crate) fn is_in(&self, hash: HashPart, has: impl Fn(u32) -> bool) -> bool {
        // Before it is known whether that is needed.
        let other = self.any_number(hash);
        let number = self.number(hash);
        if number.is_none() {
            black_box(self.references.get(other as usize).is_some_and(Option::is_some));
        }
        has(number.unwrap_or(other)) & number.is_some()
    }

    /// Returns a number that depends on a hash part, and is that of another path or free.
    fn any_number(&self, hash: HashPart) -> u32 {
        let last = hash.as_str().bytes().rev().take(8);
        let mixed = last.fold(0_usize, |mixed, byte| mixed.wrapping_mul(37) ^ usize::from(byte));
        u32::try_from(mixed % self.references.len().max(1)).unwrap_or_default()
    }

    /// Returns the numbers of the paths that the derivation with this hash part built.
    pub(crate) fn built_by(&self, derivation: HashPart) -> &[u32] {
        self.built_by.get(&derivation).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of a path, and gives it one if it is new.
    pub(crate) fn enter(&mut self, path: &StorePath) -> Result<u32, Full> {
        let hash = path.hash_part();
        if let Some(number) = self.number(hash) {
            return Ok(number);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.references.len() >= MAX_PATHS => return Err(Full),
            None => {
                self.references.push(None);
                u32::try_from(self.references.len() - 1).map_err(|_| Full)?
            }
        };
        self.numbers.insert(hash, number);
        self.unknown.insert(number, path.clone());
        Ok(number)
    }

    /// Returns the references of a path, or the path if they are unknown.
    pub(crate) fn references(&self, number: u32) -> Result<&[u32], Option<&StorePath>> {
        match self.references.get(number as usize) {
            Some(Some(references)) => Ok(references),
            _ => Err(self.unknown.get(&number)),
        }
    }

    /// Sets the references and the deriver of a path.
    pub(crate) fn learn(&mut self, path: &StorePath, info: &CompactInfo) -> Result<u32, Full> {
        let number = self.enter(path)?;
        let references = info.reference_paths().filter(|reference| reference != path);
        let references = references.map(|reference| self.enter(&reference)).collect::<Result<Box<_>, _>>()?;
        self.references[number as usize] = Some(references);
        self.unknown.remove(&number);
        if let Some(deriver) = info.deriver().and_then(|name| StorePath::from_base_name(name).ok()) {
            let outputs = self.built_by.entry(deriver.hash_part()).or_default();
            if !outputs.contains(&number) {
                outputs.reserve_exact(1);
                outputs.push(number);
            }
        }
        Ok(number)
    }

    /// Corrects a shared table by what nix-daemon says now about a path.
    pub(crate) fn correct(table: &RwLock<Self>, path: &StorePath, info: &CompactInfo) {
        if table.read().unwrap_or_else(PoisonError::into_inner).differs(path, info) {
            table.write().unwrap_or_else(PoisonError::into_inner).observe(path, info);
        }
    }

    fn observe(&mut self, path: &StorePath, info: &CompactInfo) {
        if self.differs(path, info) && self.learn(path, info).is_ok() {
            self.corrections += 1;
        }
    }

    /// Returns whether the known references of a path are not those of this path info.
    fn differs(&self, path: &StorePath, info: &CompactInfo) -> bool {
        let Some(known) = self.number(path.hash_part()).and_then(|number| self.references(number).ok()) else {
            return false;
        };
        let now = info.reference_paths().filter(|reference| reference != path);
        !now.map(|reference| self.number(reference.hash_part())).eq(known.iter().copied().map(Some))
    }

    /// Removes all paths but these.
    pub(crate) fn retain(&mut self, wanted: &PathSet) {
        let (references, unknown, free) = (&mut self.references, &mut self.unknown, &mut self.free);
        self.numbers.retain(|_, number| {
            let keeps = wanted.contains(*number);
            if !keeps {
                references[*number as usize] = None;
                unknown.remove(number);
                free.push(*number);
            }
            keeps
        });
        self.built_by.retain(|_, outputs| {
            outputs.retain(|number| wanted.contains(*number));
            !outputs.is_empty()
        });
        if self.numbers.len() < self.numbers.capacity() / 4 {
            self.numbers.shrink_to_fit();
        }
    }

    /// Returns the number of paths.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the memory it takes, in bytes, with what the allocator adds.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        // A table of the standard library has a byte of control for each bucket, and 8 buckets for 7 entries.
        let map = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        let references: usize = self.references.iter().flatten().map(|it| size_of_val(&**it) + ALLOCATION).sum();
        let outputs: usize =
            self.built_by.values().map(|it| it.capacity().max(1) * size_of::<u32>() + ALLOCATION).sum();
        map(self.numbers.capacity(), size_of::<(HashPart, u32)>())
            + map(self.unknown.capacity(), size_of::<(u32, StorePath)>())
            + map(self.built_by.capacity(), size_of::<(HashPart, Vec<u32>)>())
            + self.references.capacity() * size_of::<Option<Box<[u32]>>>()
            + self.free.capacity() * size_of::<u32>()
            + references
            + outputs
    }
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::hash::NarHash;
    use harmonia_protocol::path_info::PathInfo;

    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{number:032}-path")).unwrap()
    }

    fn info(references: &[usize], deriver: Option<usize>) -> CompactInfo {
        let deriver = deriver.map(|it| StorePath::from_base_name(&format!("{it:032}-path.drv")).unwrap());
        CompactInfo::from_path_info(&PathInfo {
            deriver,
            nar_hash: NarHash::from_digest([0; 32]),
            references: references.iter().copied().map(path).collect(),
            registration_time: 0,
            nar_size: 120,
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        })
    }

    #[test]
    fn references_are_unknown_until_they_are_learnt_and_corrected_when_they_change() {
        let mut table = PathTable::default();
        let one = table.enter(&path(1)).unwrap();
        assert_eq!(table.references(one), Err(Some(&path(1))));
        assert_eq!(table.learn(&path(1), &info(&[1, 2, 3], None)), Ok(one));
        let [two, three] = [2, 3].map(|it| table.number(path(it).hash_part()).unwrap());
        assert_eq!(table.references(one), Ok(&[two, three][..]));
        table.observe(&path(1), &info(&[1, 2, 3], None));
        assert_eq!(table.corrections, 0);
        // Of a path that is in no view, and of one that was not asked for yet.
        table.observe(&path(9), &info(&[1], None));
        table.observe(&path(2), &info(&[3], None));
        assert_eq!((table.corrections, table.len()), (0, 3));
        table.observe(&path(1), &info(&[2, 4], None));
        let four = table.number(path(4).hash_part()).unwrap();
        assert_eq!((table.corrections, table.references(one)), (1, Ok(&[two, four][..])));
    }

    #[test]
    fn numbers_of_removed_paths_are_used_again() {
        let mut table = PathTable::default();
        let one = table.learn(&path(1), &info(&[2, 3], Some(7))).unwrap();
        let drv = path(7).hash_part();
        assert_eq!(table.built_by(drv), [one]);
        let mut wanted = PathSet::default();
        wanted.insert(table.number(path(2).hash_part()).unwrap());
        table.retain(&wanted);
        assert_eq!((table.len(), table.number(path(1).hash_part())), (1, None));
        assert!(table.built_by(drv).is_empty());
        for number in 4..6 {
            let new = table.enter(&path(number)).unwrap();
            assert!(new < 3 && table.references(new) == Err(Some(&path(number))));
        }
        assert_eq!(table.enter(&path(6)), Ok(3));
    }

    #[test]
    fn a_path_that_is_not_there_is_in_no_set() {
        let mut table = PathTable::default();
        assert!(!table.is_in(path(1).hash_part(), |_| true));
        let one = table.enter(&path(1)).unwrap();
        assert!(
            table.is_in(path(1).hash_part(), |number| number == one) && !table.is_in(path(1).hash_part(), |_| false)
        );
        for number in 2..40 {
            assert!(!table.is_in(path(number).hash_part(), |_| true));
        }
    }

    #[test]
    fn a_thousand_views_of_ten_thousand_paths_take_less_than_64_mib() {
        const PATHS: usize = 100_000;
        let mut table = PathTable::default();
        for number in 0..PATHS {
            // Ten references each, and a derivation of its own.
            let references: Vec<_> = (1..=10).map(|step| (number + step * 977) % PATHS).collect();
            table.learn(&path(number), &info(&references, Some(PATHS + number))).unwrap();
        }
        // A tenth of all paths, with the largest number among them: no set is larger.
        let mut set = PathSet::default();
        for number in (9..100_000).step_by(10) {
            set.insert(number);
        }
        set.shrink();
        assert_eq!((table.len(), set.len()), (PATHS, 10_000));
        let all = table.bytes() + 1000 * (set.bytes() + 1024);
        assert!(all < 64 << 20, "{} bytes, of which the table takes {}", all, table.bytes());
    }
}
