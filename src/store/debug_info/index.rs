//! Which store paths have the debug info of a build.
//!
//! The index is a hint: it holds what was seen, and who uses it asks whether it is so still. What was seen of each path
//! is kept beside it, by the scans alone, so that a scan looks only into what has changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use harmonia_protocol::HashPart;

use super::BuildId;
use super::files::Changed;

/// Paths that are tried for one build id. Several have it only where a build was reproduced under another name.
const MAX_CANDIDATES: usize = 8;

/// Build ids, each with the paths that have it.
#[derive(Debug)]
pub(super) struct Index {
    max_ids: usize,
    ids: Mutex<BTreeSet<(BuildId, HashPart)>>,
}

/// There is no room in the index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Index {
    /// An empty index with room for this many.
    pub(super) const fn new(max_ids: usize) -> Self {
        Self { max_ids, ids: Mutex::new(BTreeSet::new()) }
    }

    /// Some of the paths that had it when they were looked at.
    pub(super) fn candidates(&self, id: &BuildId) -> Vec<HashPart> {
        // The least of all hash parts.
        let least = (id.clone(), HashPart::ZERO);
        let ids = self.ids();
        let with_id = ids.range(least..).take_while(|(other, _)| other == id);
        with_id.take(MAX_CANDIDATES).map(|(_, path)| *path).collect()
    }

    /// How many build ids there is room for.
    pub(super) const fn max_ids(&self) -> usize {
        self.max_ids
    }

    /// How many there are, counted for each path.
    pub(super) fn len(&self) -> usize {
        self.ids().len()
    }

    fn insert(&self, path: HashPart, new: &[BuildId]) -> Result<(), Full> {
        let mut ids = self.ids();
        if ids.len() + new.len() > self.max_ids {
            return Err(Full);
        }
        ids.extend(new.iter().map(|id| (id.clone(), path)));
        Ok(())
    }

    fn remove(&self, path: HashPart, old: &[BuildId]) {
        let mut ids = self.ids();
        for id in old {
            ids.remove(&(id.clone(), path));
        }
    }

    /// Nothing waits while it holds them: each use is about one id or one path.
    fn ids(&self) -> MutexGuard<'_, BTreeSet<(BuildId, HashPart)>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the scans so far have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    paths: HashMap<HashPart, Path>,
}

#[derive(Debug)]
struct Path {
    changed: Changed,
    ids: Box<[BuildId]>,
}

impl Seen {
    /// The change that was seen when the path was last looked at.
    pub(super) fn changed(&self, path: HashPart) -> Option<Changed> {
        Some(self.paths.get(&path)?.changed)
    }

    /// Enters what a path has now in place of what it had. If there is no room for that, the path was not seen.
    pub(super) fn enter(
        &mut self,
        index: &Index,
        path: HashPart,
        changed: Changed,
        ids: Vec<BuildId>,
    ) -> Result<(), Full> {
        self.forget(index, path);
        index.insert(path, &ids)?;
        self.paths.insert(path, Path { changed, ids: ids.into() });
        Ok(())
    }

    /// Forgets a path.
    pub(super) fn forget(&mut self, index: &Index, path: HashPart) {
        if let Some(old) = self.paths.remove(&path) {
            index.remove(path, &old.ids);
        }
    }

    /// Forgets all paths but these.
    pub(super) fn keep(&mut self, index: &Index, paths: &HashSet<HashPart>) {
        self.paths.retain(|path, old| {
            let stays = paths.contains(path);
            if !stays {
                index.remove(*path, &old.ids);
            }
            stays
        });
    }

    /// How many paths there are.
    pub(super) fn len(&self) -> usize {
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

    const WHEN: Changed = Changed::at(1, 0);

    #[test]
    fn an_id_leads_to_the_paths_that_have_it_now() {
        let (index, mut seen) = (Index::new(10), Seen::default());
        seen.enter(&index, path('1'), WHEN, ids(&[1, 2])).unwrap();
        seen.enter(&index, path('2'), WHEN, ids(&[2, 3])).unwrap();
        assert_eq!(index.candidates(&id(1)), [path('1')]);
        assert_eq!(index.candidates(&id(2)), [path('1'), path('2')]);
        assert_eq!(index.candidates(&id(4)), []);
        seen.enter(&index, path('2'), Changed::at(2, 0), ids(&[3, 4])).unwrap();
        assert_eq!((index.candidates(&id(2)), index.candidates(&id(4))), (vec![path('1')], vec![path('2')]));
        assert_eq!((seen.changed(path('2')), seen.changed(path('3'))), (Some(Changed::at(2, 0)), None));
        seen.keep(&index, &HashSet::from([path('2')]));
        assert_eq!((index.candidates(&id(1)), seen.changed(path('1')), seen.len()), (vec![], None, 1));
        seen.forget(&index, path('2'));
        assert_eq!((index.len(), seen.len()), (0, 0));
    }

    #[test]
    fn a_path_for_which_there_is_no_room_was_not_seen() {
        let (index, mut seen) = (Index::new(3), Seen::default());
        seen.enter(&index, path('1'), WHEN, ids(&[1, 2])).unwrap();
        assert_eq!(seen.enter(&index, path('2'), WHEN, ids(&[3, 4])), Err(Full));
        assert_eq!((index.len(), seen.changed(path('2'))), (2, None));
        seen.forget(&index, path('1'));
        seen.enter(&index, path('2'), WHEN, ids(&[3, 4])).unwrap();
        assert_eq!(index.candidates(&id(4)), [path('2')]);
    }

    #[test]
    fn a_build_in_very_many_paths_costs_no_more_questions() {
        let (index, mut seen) = (Index::new(100), Seen::default());
        for digit in "0123456789abcdf".chars() {
            seen.enter(&index, path(digit), WHEN, ids(&[1])).unwrap();
        }
        assert_eq!(index.candidates(&id(1)).len(), MAX_CANDIDATES);
    }
}
