//! A bucket in memory for tests, whose processes die after some writes, or take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use object_store::memory::InMemory;
use tokio::sync::Semaphore;

use super::kind::Engine;
use super::store::BucketStore;
use crate::metrics::Metrics;

impl BucketStore {
    /// Creates a store in memory that dies after so many writes.
    pub(in crate::bucket) fn in_memory(memory: &Arc<InMemory>, writes: usize) -> Self {
        let mut store = Self::new(Engine::Memory(Arc::clone(memory)), "", Arc::default());
        store.limits.writes_left = writes.into();
        store
    }

    /// Creates a store in memory whose requests wait for a permit each, and whose writes are counted.
    pub(in crate::bucket) fn in_turns(
        memory: &Arc<InMemory>,
        turns: &Arc<Semaphore>,
        writes: &Arc<AtomicUsize>,
    ) -> Self {
        let mut store = Self::in_memory(memory, usize::MAX);
        (store.limits.turns, store.limits.writes) = (Some(Arc::clone(turns)), Arc::clone(writes));
        store
    }

    /// Lets every further request fail.
    pub(in crate::bucket) fn die(&self) {
        self.limits.writes_left.store(0, Relaxed);
    }

    /// Returns the metrics.
    pub(in crate::bucket) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
