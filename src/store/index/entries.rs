//! Build IDs and the paths that have their debug info.
//!
//! The index is a hint that its users check. Beside it the scans keep the state of each path, so that they read only
//! paths that have changed.

use crate::sync::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::MutexGuard;

use harmonia_protocol::HashPart;

use crate::store::index::build_id::BuildId;
use crate::store::index::change_time::ChangeTime;

/// Maximal number of paths tried per key, each by a query at worst. Several paths share a build ID only if a build was
/// reproduced under another name.
pub(crate) const MAX_CANDIDATES: usize = 64;

/// Pairs of key and path.
#[derive(Debug)]
pub(crate) struct Entries {
    max: usize,
    keys: Mutex<BTreeSet<(BuildId, HashPart)>>,
}

/// The index is full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Entries {
    /// Creates an empty index for `max` pairs.
    pub(crate) const fn new(max: usize) -> Self {
        Self { max, keys: Mutex::new(BTreeSet::new()) }
    }

    /// Returns at most [`MAX_CANDIDATES`] `visible` paths that had this key when they were scanned.
    pub(crate) fn candidates(&self, key: &BuildId, visible: impl Fn(HashPart) -> bool) -> Vec<HashPart> {
        // The zero hash part sorts first.
        let least = (key.clone(), HashPart::ZERO);
        let keys = self.keys();
        let with_key = keys.range(least..).take_while(|(other, _)| other == key);
        with_key.map(|(_, path)| *path).filter(|path| visible(*path)).take(MAX_CANDIDATES).collect()
    }

    /// Returns the capacity.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.keys().len()
    }

    /// Removes all pairs.
    pub(crate) fn clear(&self) {
        self.keys().clear();
    }

    fn insert(&self, path: HashPart, new: &[BuildId]) -> Result<(), Full> {
        let mut keys = self.keys();
        if keys.len() + new.len() > self.max {
            return Err(Full);
        }
        keys.extend(new.iter().map(|key| (key.clone(), path)));
        Ok(())
    }

    fn remove(&self, path: HashPart, old: &[BuildId]) {
        let mut keys = self.keys();
        for key in old {
            keys.remove(&(key.clone(), path));
        }
    }

    /// Locked briefly: each use is about one key or one path.
    fn keys(&self) -> MutexGuard<'_, BTreeSet<(BuildId, HashPart)>> {
        self.keys.lock()
    }
}

/// State of the paths scanned so far.
#[derive(Debug)]
pub(crate) struct Scanned {
    paths: HashMap<HashPart, Path>,
}

#[derive(Debug)]
struct Path {
    changed: ChangeTime,
    keys: Box<[BuildId]>,
}

impl Scanned {
    /// Creates an empty state.
    pub(crate) fn new() -> Self {
        Self { paths: HashMap::new() }
    }

    /// Returns the change time of a path when it was last scanned.
    pub(crate) fn change_time(&self, path: HashPart) -> Option<ChangeTime> {
        Some(self.paths.get(&path)?.changed)
    }

    /// Replaces the keys of a path. If the index is full, the path counts as not scanned.
    pub(crate) fn insert(
        &mut self,
        entries: &Entries,
        path: HashPart,
        changed: ChangeTime,
        keys: Vec<BuildId>,
    ) -> Result<(), Full> {
        self.remove(entries, path);
        entries.insert(path, &keys)?;
        self.paths.insert(path, Path { changed, keys: keys.into() });
        Ok(())
    }

    /// Removes a path.
    pub(crate) fn remove(&mut self, entries: &Entries, path: HashPart) {
        if let Some(old) = self.paths.remove(&path) {
            entries.remove(path, &old.keys);
        }
    }

    /// Removes all paths but these.
    pub(crate) fn retain(&mut self, entries: &Entries, paths: &HashSet<HashPart>) {
        self.paths.retain(|path, old| {
            let is_retained = paths.contains(path);
            if !is_retained {
                entries.remove(*path, &old.keys);
            }
            is_retained
        });
    }

    /// Returns the number of paths.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> BuildId {
        format!("{byte:02x}").repeat(20).parse().unwrap()
    }

    fn path(digit: char) -> HashPart {
        digit.to_string().repeat(32).parse().unwrap()
    }

    fn ids(bytes: &[u8]) -> Vec<BuildId> {
        bytes.iter().copied().map(id).collect()
    }

    const WHEN: ChangeTime = ChangeTime::at(1, 0);

    #[test]
    fn a_build_id_maps_to_all_paths_that_have_it() {
        let (entries, mut scanned) = (Entries::new(10), Scanned::new());
        scanned.insert(&entries, path('1'), WHEN, ids(&[1, 2])).unwrap();
        scanned.insert(&entries, path('2'), WHEN, ids(&[2, 3])).unwrap();
        assert_eq!(entries.candidates(&id(1), |_| true), [path('1')]);
        assert_eq!(entries.candidates(&id(2), |_| true), [path('1'), path('2')]);
        assert_eq!(entries.candidates(&id(4), |_| true), []);
        scanned.insert(&entries, path('2'), ChangeTime::at(2, 0), ids(&[3, 4])).unwrap();
        assert_eq!(
            (entries.candidates(&id(2), |_| true), entries.candidates(&id(4), |_| true)),
            (vec![path('1')], vec![path('2')])
        );
        assert_eq!(
            (scanned.change_time(path('2')), scanned.change_time(path('3'))),
            (Some(ChangeTime::at(2, 0)), None)
        );
        scanned.retain(&entries, &HashSet::from([path('2')]));
        assert_eq!(
            (entries.candidates(&id(1), |_| true), scanned.change_time(path('1')), scanned.len()),
            (vec![], None, 1)
        );
        scanned.remove(&entries, path('2'));
        assert_eq!((entries.len(), scanned.len()), (0, 0));
    }

    #[test]
    fn a_path_beyond_the_capacity_counts_as_not_scanned() {
        let (entries, mut scanned) = (Entries::new(3), Scanned::new());
        scanned.insert(&entries, path('1'), WHEN, ids(&[1, 2])).unwrap();
        assert_eq!(scanned.insert(&entries, path('2'), WHEN, ids(&[3, 4])), Err(Full));
        assert_eq!((entries.len(), scanned.change_time(path('2'))), (2, None));
        scanned.remove(&entries, path('1'));
        scanned.insert(&entries, path('2'), WHEN, ids(&[3, 4])).unwrap();
        assert_eq!(entries.candidates(&id(4), |_| true), [path('2')]);
    }

    #[test]
    fn candidates_of_a_key_are_limited() {
        let (entries, mut scanned) = (Entries::new(1000), Scanned::new());
        for number in 0..=MAX_CANDIDATES {
            scanned.insert(&entries, format!("{number:032}").parse().unwrap(), WHEN, ids(&[1])).unwrap();
        }
        assert_eq!(entries.candidates(&id(1), |_| true).len(), MAX_CANDIDATES);
    }
}
