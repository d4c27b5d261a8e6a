//! State of one path's GC root.

use std::sync::atomic::{AtomicU64, Ordering};

/// Twice the number of the generation in which a root was requested, plus 1 if it is set there. Kept in the path's
/// cached value, so that a request needs no lock to read it.
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

    /// Records a request in this generation. Returns whether there was none.
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
