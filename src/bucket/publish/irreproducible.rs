//! Paths of which the bucket has another build than this host, also after a restart: all hosts serve that one.

use std::collections::BTreeSet;
use std::path::Path;

use harmonia_protocol::HashPart;
use tokio::sync::Notify;

use super::state_list::StateList;
use crate::sync::Mutex;

/// Upper bound of the paths.
const MAX_PATHS: usize = 10_000;

/// Paths that were built otherwise.
#[derive(Debug)]
pub(super) struct Irreproducible {
    paths: Mutex<BTreeSet<HashPart>>,
    list: StateList,
    changed: Notify,
}

impl Irreproducible {
    /// Reads the paths that a process before has left in this directory. Blocks on the disk.
    pub(super) fn open(directory: Option<&Path>) -> Self {
        let list = StateList::new(directory, "irreproducible");
        let paths = list.read().iter().filter_map(|text| text.parse().ok()).take(MAX_PATHS).collect();
        Self { paths: Mutex::new(paths), list, changed: Notify::new() }
    }

    /// Notes a path of which the bucket has another build. Returns whether that is new.
    pub(super) fn insert(&self, path: HashPart) -> bool {
        let mut paths = self.paths.lock();
        let is_new = paths.len() < MAX_PATHS && paths.insert(path);
        if is_new {
            self.changed.notify_one();
        }
        is_new
    }

    /// Notes that the bucket has no other build of a path, which is published from here.
    pub(super) fn remove(&self, path: &HashPart) {
        if self.paths.lock().remove(path) {
            self.changed.notify_one();
        }
    }

    /// Returns whether the bucket has another build of a path.
    pub(super) fn contains(&self, path: &HashPart) -> bool {
        self.paths.lock().contains(path)
    }

    /// Returns the paths, in ascending order.
    pub(super) fn list(&self) -> Vec<HashPart> {
        self.paths.lock().iter().copied().collect()
    }

    /// Writes changes to the disk as they happen. Never returns.
    pub(super) async fn save(&self) {
        loop {
            self.changed.notified().await;
            self.list.write(self.list().iter().map(ToString::to_string).collect()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[tokio::test]
    async fn they_are_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Irreproducible::open(Some(directory.path()));
        assert!(paths.insert(part(1)) && !paths.insert(part(1)) && paths.insert(part(2)));
        paths.remove(&part(2));
        let saved = || Irreproducible::open(Some(directory.path())).list();
        tokio::select! {
            () = paths.save() => {}
            () = async { while saved() != [part(1)] { tokio::task::yield_now().await } } => {}
        }
        assert!(paths.contains(&part(1)) && !paths.contains(&part(2)));
    }
}
