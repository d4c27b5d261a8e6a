//! Paths whose NARs principals have uploaded.
//!
//! Whoever reads a path may read its closure. So a principal that does not see a path must not be able to push another one that
//! refers to it, unless it has shown that it has the NAR.

use harmonia_protocol::HashPart;

use crate::clock_cache::ClockCache;
use crate::push::spool::Owner;
use crate::sync::Mutex;

/// Limit in bytes: the closures of several desktops. What is evicted has to be uploaded again.
const MAX_BYTES: usize = 32 << 20;

/// Paths of principals with views. Empty as long as all that push see everything.
#[derive(Debug)]
pub(super) struct UploadedPaths(Mutex<ClockCache<(Owner, HashPart), ()>>);

impl UploadedPaths {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ClockCache::new(MAX_BYTES)))
    }

    /// Records that this principal has uploaded the NAR of a valid path.
    pub(super) fn insert(&self, owner: Owner, hash: HashPart) {
        self.0.lock().insert((owner, hash), (), 0);
    }

    /// Returns whether this principal has uploaded the NAR.
    pub(super) fn contains(&self, owner: Owner, hash: HashPart) -> bool {
        self.0.lock().find(&(owner, hash)).is_some()
    }
}
