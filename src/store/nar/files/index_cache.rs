//! The indexes that are kept in memory.

use crate::sync::Mutex;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Layout;

use crate::clock_cache::ClockCache;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::open::LastModified;
use crate::store::path_info::path_stamp::PathStamp;

/// For all of them, in bytes: those of three thousand paths of two hundred files.
const MAX_BYTES: usize = 32 << 20;

/// Indexes of paths as they looked then.
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
    /// None yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ClockCache::new(MAX_BYTES))))
    }

    /// The index that was made of the path as it looks, and when the last of its files had been modified.
    pub(crate) fn find(&self, expected: &ExpectedNar, seen: PathStamp) -> Option<(Arc<Layout>, LastModified)> {
        let mut entries = self.0.lock();
        let entry = entries.find(&expected.path.hash_part())?;
        let holds = entry.seen == seen && entry.nar_size == expected.nar_size;
        holds.then(|| (Arc::clone(&entry.layout), entry.modified))
    }

    /// Keeps the index of a path that looks so.
    pub(crate) fn add(&self, expected: &ExpectedNar, seen: PathStamp, layout: &Arc<Layout>, modified: LastModified) {
        let entry = Entry { seen, nar_size: expected.nar_size, layout: Arc::clone(layout), modified };
        self.0.lock().insert(expected.path.hash_part(), entry, layout.heap_size());
    }

    /// The path is not as it was indexed.
    pub(crate) fn forget(&self, hash: &HashPart) {
        self.0.lock().remove(hash);
    }
}
