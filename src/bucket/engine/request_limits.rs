//! Requests that a process of a test may send, before it dies or in its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::Operation;

/// Requests that a process may send.
#[derive(Debug)]
pub(super) struct Limits {
    /// Writes after which it is dead.
    pub(super) writes_left: AtomicUsize,
    /// Permits of requests, which a test gives out one by one.
    pub(super) turns: Option<Arc<Semaphore>>,
    /// Writes of all processes that share this.
    pub(super) writes: Arc<AtomicUsize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { writes_left: usize::MAX.into(), turns: None, writes: Arc::default() }
    }
}

impl Limits {
    /// Waits for the turn of a request, and returns whether its process is dead.
    pub(super) async fn is_dead(&self, operation: Operation) -> bool {
        if let Some(turns) = &self.turns {
            turns.acquire().await.map(SemaphorePermit::forget).unwrap_or_default();
        }
        let is_write = matches!(operation, Operation::Put | Operation::Multipart | Operation::Delete);
        self.writes.fetch_add(is_write.into(), Relaxed);
        let less = |left: usize| if is_write { left.checked_sub(1) } else { Some(left).filter(|left| *left > 0) };
        self.writes_left.fetch_update(Relaxed, Relaxed, less).is_err()
    }
}
