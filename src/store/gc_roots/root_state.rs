//! State of one path's GC root.

use std::sync::atomic::{AtomicU64, Ordering};

/// Latest generation in which a root was requested for a path, and whether it is set. Stored in the cached
/// [`ValidPath`], so that requests read it without a lock.
///
/// Twice the number of the generation, plus 1 if the root is set.
///
/// [`ValidPath`]: crate::store::path_info::valid_path::ValidPath
#[derive(Debug, Default)]
pub(crate) struct RootState(AtomicU64);

impl RootState {
    /// Returns whether a root was requested in this generation.
    pub(crate) fn is_requested_in(&self, generation: u64) -> bool {
        self.0.load(Ordering::Relaxed) >> 1 == generation
    }

    /// Returns whether the root is set in one of these generations.
    pub(crate) fn is_rooted_in(&self, generations: &[u64]) -> bool {
        let state = self.0.load(Ordering::Relaxed);
        state & 1 == 1 && generations.contains(&(state >> 1))
    }

    /// Records a request in this generation. Returns whether there was none.
    pub(crate) fn request(&self, generation: u64) -> bool {
        self.0.swap(generation << 1, Ordering::Relaxed) >> 1 != generation
    }

    /// Records that the root is set in this generation.
    pub(crate) fn set_rooted(&self, generation: u64) {
        self.0.store(generation << 1 | 1, Ordering::Relaxed);
    }

    /// Forgets the request and the root.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
