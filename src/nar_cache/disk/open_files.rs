//! The most recently used files of entries, which stay open.
//!
//! Limits the number of descriptors. Bodies keep none between reads: each read looks up the file here, or opens it again if it
//! was closed meanwhile, so that clients that stop reading hold no descriptor.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Entry;
use super::file::DiskFile;
use super::key::EntryKey;
use crate::sync::Mutex;

/// Limit on open files: an eighth of the lowest descriptor limit that is common.
const MAX_OPEN: usize = 128;

/// The open files of one cache.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    files: HashMap<EntryKey, OpenFile>,
    clock: u64,
}

#[derive(Debug)]
struct OpenFile {
    entry: Arc<Entry>,
    file: Arc<DiskFile>,
    used: u64,
}

impl OpenFiles {
    /// Returns an entry and its file if that is open, and marks both as used.
    pub(crate) fn find(&self, key: &EntryKey) -> Option<(Arc<Entry>, Arc<DiskFile>)> {
        let mut open = self.0.lock();
        open.clock += 1;
        let now = open.clock;
        let found = open.files.get_mut(key)?;
        found.used = now;
        found.file.mark_used();
        Some((Arc::clone(&found.entry), Arc::clone(&found.file)))
    }

    /// Adds a file, and closes the least recently used one if there are too many.
    pub(crate) fn insert(&self, key: &EntryKey, entry: &Arc<Entry>, file: &Arc<DiskFile>) {
        let mut open = self.0.lock();
        open.clock += 1;
        let file = OpenFile { entry: Arc::clone(entry), file: Arc::clone(file), used: open.clock };
        open.files.insert(key.clone(), file);
        if open.files.len() > MAX_OPEN {
            let oldest = open.files.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.files.remove(&key));
        }
    }

    /// Closes a file.
    pub(crate) fn remove(&self, key: &EntryKey) {
        self.0.lock().files.remove(key);
    }
}
