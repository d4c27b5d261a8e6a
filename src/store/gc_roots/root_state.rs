//! State of one path's GC root.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where a path stands with the lease: the number of a generation, twice, and 1 if its root is set there.
#[derive(Debug, Default)]
pub(crate) struct RootState(AtomicU64);

impl RootState {
    pub(crate) fn is_of(&self, generation: u64) -> bool {
        self.0.load(Ordering::Relaxed) >> 1 == generation
    }

    pub(crate) fn is_rooted_in(&self, generations: &[u64]) -> bool {
        let mark = self.0.load(Ordering::Relaxed);
        mark & 1 == 1 && generations.contains(&(mark >> 1))
    }

    /// Whether it was of another generation until now.
    pub(crate) fn wish(&self, generation: u64) -> bool {
        self.0.swap(generation << 1, Ordering::Relaxed) >> 1 != generation
    }

    pub(crate) fn root(&self, generation: u64) {
        self.0.store(generation << 1 | 1, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
