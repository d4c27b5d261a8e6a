//! Cache of NAR indexes.

use crate::sync::Mutex;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Layout;

use crate::clock_cache::ClockCache;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::open::LastModified;
use crate::store::path_info::path_stamp::PathStamp;

/// Upper bound of the cache, in bytes: three thousand paths of two hundred files.
const MAX_BYTES: usize = 32 << 20;

/// Indexes of paths, with their stamps.
#[derive(Debug)]
pub(crate) struct IndexCache(Mutex<ClockCache<HashPart, Entry>>);

#[derive(Debug)]
struct Entry {
    seen: PathStamp,
    nar_size: u64,
    layout: Arc<Layout>,
    modified: LastModified,
}

impl IndexCache {
    /// Creates an empty cache.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ClockCache::new(MAX_BYTES))))
    }

    /// Returns the index of a path with this stamp, and the last modification of its files.
    pub(crate) fn find(&self, expected: &ExpectedNar, seen: PathStamp) -> Option<(Arc<Layout>, LastModified)> {
        let mut entries = self.0.lock();
        let entry = entries.find(&expected.path.hash_part())?;
        let holds = entry.seen == seen && entry.nar_size == expected.nar_size;
        holds.then(|| (Arc::clone(&entry.layout), entry.modified))
    }

    /// Caches the index of a path with this stamp.
    pub(crate) fn add(&self, expected: &ExpectedNar, seen: PathStamp, layout: &Arc<Layout>, modified: LastModified) {
        let entry = Entry { seen, nar_size: expected.nar_size, layout: Arc::clone(layout), modified };
        self.0.lock().insert(expected.path.hash_part(), entry, layout.heap_size());
    }

    /// Removes the index of a path that has changed.
    pub(crate) fn forget(&self, hash: &HashPart) {
        self.0.lock().remove(hash);
    }
}
