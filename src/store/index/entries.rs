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

/// Upper bound of paths tried per key, each by a query at worst. Several paths share a build ID only if a build was
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

    /// Returns at most [`MAX_CANDIDATES`] paths that had this key when they were scanned.
    pub(crate) fn candidates(&self, key: &BuildId) -> Vec<HashPart> {
        // The zero hash part sorts first.
        let least = (key.clone(), HashPart::ZERO);
        let keys = self.keys();
        let with_key = keys.range(least..).take_while(|(other, _)| other == key);
        with_key.take(MAX_CANDIDATES).map(|(_, path)| *path).collect()
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
    pub(crate) fn changed(&self, path: HashPart) -> Option<ChangeTime> {
        Some(self.paths.get(&path)?.changed)
    }

    /// Replaces the keys of a path. If the index is full, the path counts as not scanned.
    pub(crate) fn enter(
        &mut self,
        entries: &Entries,
        path: HashPart,
        changed: ChangeTime,
        keys: Vec<BuildId>,
    ) -> Result<(), Full> {
        self.forget(entries, path);
        entries.insert(path, &keys)?;
        self.paths.insert(path, Path { changed, keys: keys.into() });
        Ok(())
    }

    /// Removes a path.
    pub(crate) fn forget(&mut self, entries: &Entries, path: HashPart) {
        if let Some(old) = self.paths.remove(&path) {
            entries.remove(path, &old.keys);
        }
    }

    /// Removes all other paths.
    pub(crate) fn keep(&mut self, entries: &Entries, paths: &HashSet<HashPart>) {
        self.paths.retain(|path, old| {
            let stays = paths.contains(path);
            if !stays {
                entries.remove(*path, &old.keys);
            }
            stays
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
    fn an_id_leads_to_the_paths_that_have_it_now() {
        let (entries, mut seen) = (Entries::new(10), Scanned::new());
        seen.enter(&entries, path('1'), WHEN, ids(&[1, 2])).unwrap();
        seen.enter(&entries, path('2'), WHEN, ids(&[2, 3])).unwrap();
        assert_eq!(entries.candidates(&id(1)), [path('1')]);
        assert_eq!(entries.candidates(&id(2)), [path('1'), path('2')]);
        assert_eq!(entries.candidates(&id(4)), []);
        seen.enter(&entries, path('2'), ChangeTime::at(2, 0), ids(&[3, 4])).unwrap();
        assert_eq!((entries.candidates(&id(2)), entries.candidates(&id(4))), (vec![path('1')], vec![path('2')]));
        assert_eq!((seen.changed(path('2')), seen.changed(path('3'))), (Some(ChangeTime::at(2, 0)), None));
        seen.keep(&entries, &HashSet::from([path('2')]));
        assert_eq!((entries.candidates(&id(1)), seen.changed(path('1')), seen.len()), (vec![], None, 1));
        seen.forget(&entries, path('2'));
        assert_eq!((entries.len(), seen.len()), (0, 0));
    }

    #[test]
    fn a_path_for_which_there_is_no_room_was_not_seen() {
        let (entries, mut seen) = (Entries::new(3), Scanned::new());
        seen.enter(&entries, path('1'), WHEN, ids(&[1, 2])).unwrap();
        assert_eq!(seen.enter(&entries, path('2'), WHEN, ids(&[3, 4])), Err(Full));
        assert_eq!((entries.len(), seen.changed(path('2'))), (2, None));
        seen.forget(&entries, path('1'));
        seen.enter(&entries, path('2'), WHEN, ids(&[3, 4])).unwrap();
        assert_eq!(entries.candidates(&id(4)), [path('2')]);
    }

    #[test]
    fn a_key_of_very_many_paths_costs_no_more_questions() {
        let (entries, mut seen) = (Entries::new(1000), Scanned::new());
        for number in 0..=MAX_CANDIDATES {
            seen.enter(&entries, format!("{number:032}").parse().unwrap(), WHEN, ids(&[1])).unwrap();
        }
        assert_eq!(entries.candidates(&id(1)).len(), MAX_CANDIDATES);
    }
}
