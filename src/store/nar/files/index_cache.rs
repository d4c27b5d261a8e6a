//! Cache of NAR indexes.

use crate::sync::Mutex;
use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Layout;

use crate::clock_cache::ClockCache;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::open::LastModified;
use crate::store::path_info::path_stamp::PathStamp;

/// Memory limit, in bytes: the indexes of about 3,000 paths of 200 files.
const MAX_BYTES: usize = 32 << 20;

/// Indexes by hash part, each valid for one stamp of its path.
#[derive(Debug)]
pub(crate) struct IndexCache(Mutex<ClockCache<HashPart, Entry>>);

#[derive(Debug)]
struct Entry {
    stamp: PathStamp,
    nar_size: u64,
    layout: Arc<Layout>,
    modified: LastModified,
}

impl IndexCache {
    /// Creates an empty cache.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(ClockCache::new(MAX_BYTES))))
    }

    /// Returns the index made at this stamp and the latest modification time of its files.
    pub(crate) fn find(&self, expected: &ExpectedNar, stamp: PathStamp) -> Option<(Arc<Layout>, LastModified)> {
        let mut entries = self.0.lock();
        let entry = entries.find(&expected.path.hash_part())?;
        let is_current = entry.stamp == stamp && entry.nar_size == expected.nar_size;
        is_current.then(|| (Arc::clone(&entry.layout), entry.modified))
    }

    /// Adds the index made at this stamp.
    pub(crate) fn add(&self, expected: &ExpectedNar, stamp: PathStamp, layout: &Arc<Layout>, modified: LastModified) {
        let entry = Entry { stamp, nar_size: expected.nar_size, layout: Arc::clone(layout), modified };
        self.0.lock().insert(expected.path.hash_part(), entry, layout.heap_size());
    }

    /// Removes an index that is outdated.
    pub(crate) fn forget(&self, hash: &HashPart) {
        self.0.lock().remove(hash);
    }
}
