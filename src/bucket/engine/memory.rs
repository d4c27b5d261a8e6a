//! A bucket in memory for tests, whose processes die after some writes, or take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use object_store::memory::InMemory;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::Operation;
use super::kind::Engine;
use super::store::BucketStore;
use crate::metrics::Metrics;

/// Requests that a process may send.
#[derive(Debug)]
pub(super) struct Limits {
    /// Writes after which it is dead.
    writes_left: AtomicUsize,
    /// Permits of requests, which a test gives out one by one.
    turns: Option<Arc<Semaphore>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { writes_left: usize::MAX.into(), turns: None }
    }
}

impl Limits {
    /// Waits for the turn of a request, and returns whether its process is dead.
    pub(super) async fn is_dead(&self, operation: Operation) -> bool {
        if let Some(turns) = &self.turns {
            turns.acquire().await.map(SemaphorePermit::forget).unwrap_or_default();
        }
        let is_write = matches!(operation, Operation::Put | Operation::Multipart | Operation::Delete);
        let less = |left: usize| if is_write { left.checked_sub(1) } else { Some(left).filter(|left| *left > 0) };
        self.writes_left.fetch_update(Relaxed, Relaxed, less).is_err()
    }
}

impl BucketStore {
    /// Creates a store in memory that dies after so many writes.
    pub(in crate::bucket) fn in_memory(memory: &Arc<InMemory>, writes: usize) -> Self {
        let mut store = Self::new(Engine::Memory(Arc::clone(memory)), "", Arc::default());
        store.limits.writes_left = writes.into();
        store
    }

    /// Creates a store in memory whose requests wait for a permit each.
    pub(in crate::bucket) fn in_turns(memory: &Arc<InMemory>, turns: &Arc<Semaphore>) -> Self {
        let mut store = Self::in_memory(memory, usize::MAX);
        store.limits.turns = Some(Arc::clone(turns));
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
