//! Which path a file of the bucket is of, by the narinfos that were read lately.

use std::sync::Arc;

use crate::bucket::file_hash::NarFile;
use crate::bucket::narinfo::BucketNarInfo;
use crate::clock_cache::ClockCache;
use crate::sync::Mutex;

/// Upper bound of the memory of narinfos by their files, in bytes. Most are in memory by their paths too.
const MAX_BYTES: usize = 16 << 20;

/// Narinfos by the names of their files.
#[derive(Debug)]
pub(in crate::bucket) struct KnownFiles(Mutex<ClockCache<NarFile, Arc<BucketNarInfo>>>);

impl Default for KnownFiles {
    fn default() -> Self {
        Self(Mutex::new(ClockCache::new(MAX_BYTES)))
    }
}

impl KnownFiles {
    /// Remembers the file of a narinfo that a trusted key signed.
    pub(super) fn insert(&self, narinfo: &Arc<BucketNarInfo>) {
        self.0.lock().insert(narinfo.file(), Arc::clone(narinfo), narinfo.memory());
    }

    /// Returns a narinfo that names this file.
    pub(super) fn find(&self, file: &NarFile) -> Option<Arc<BucketNarInfo>> {
        self.0.lock().find(file).map(|narinfo| Arc::clone(narinfo))
    }
}
