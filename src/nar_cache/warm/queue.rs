//! The bounded queue of paths that an operator, or a post-build hook, wants compressed without waiting for it.
//!
//! A caller that finds it full waits for a while and is then told how many paths were queued. A queued path is either
//! compressed or named in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

/// Capacity of the queue: the paths of a large build, in a few MiB of memory.
const CAPACITY: usize = 1 << 16;
/// Limit on the wait for capacity, so that a hook does not delay builds for longer.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// A path to compress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WarmRequest {
    pub(crate) hash: HashPart,
    /// Whether its closure is compressed too.
    pub(crate) recursive: bool,
}

/// The queue of a running server.
#[derive(Debug)]
pub(crate) struct WarmQueue {
    sender: mpsc::Sender<WarmRequest>,
    requests: Mutex<mpsc::Receiver<WarmRequest>>,
    /// Requests that were queued and are not done.
    pending: Arc<AtomicUsize>,
    /// Limits NARs that are compressed at one time.
    permits: Arc<Semaphore>,
}

impl WarmQueue {
    /// Creates a queue of which `concurrency` NARs are compressed at one time.
    pub(crate) fn new(concurrency: usize) -> Self {
        Self::with_capacity(CAPACITY, concurrency)
    }

    fn with_capacity(capacity: usize, concurrency: usize) -> Self {
        let (sender, requests) = mpsc::channel(capacity);
        let permits = Arc::new(Semaphore::new(concurrency));
        Self { sender, requests: Mutex::new(requests), pending: Arc::default(), permits }
    }

    /// Queues paths, and waits for capacity for up to [`PUSH_TIMEOUT`]. Returns how many were queued.
    pub(crate) async fn push(&self, hashes: &[HashPart], recursive: bool) -> usize {
        let deadline = Instant::now() + PUSH_TIMEOUT;
        for (queued, hash) in hashes.iter().enumerate() {
            let Ok(Ok(slot)) = timeout_at(deadline, self.sender.reserve()).await else { return queued };
            self.pending.fetch_add(1, Ordering::Relaxed);
            slot.send(WarmRequest { hash: *hash, recursive });
        }
        hashes.len()
    }

    /// Returns the number of requests that were queued and are not done.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Locks the receiving end, which one task uses.
    pub(crate) async fn requests(&self) -> MutexGuard<'_, mpsc::Receiver<WarmRequest>> {
        self.requests.lock().await
    }

    /// Returns a guard for a request that was received, which is done when the last clone of the guard is dropped.
    pub(crate) fn start(&self) -> Arc<Pending> {
        Arc::new(Pending(Arc::clone(&self.pending)))
    }

    /// Waits until another NAR may be compressed.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}

/// A request that is being processed.
pub(crate) struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_makes_wait_and_then_says_how_many_were_taken() {
        let queue = WarmQueue::with_capacity(2, 1);
        let hashes: Vec<HashPart> = (0..5).map(|number| format!("{number:032}").parse().unwrap()).collect();
        assert_eq!(queue.push(&hashes, false).await, 2);
        assert_eq!(queue.pending(), 2);
        // One is received while it waits.
        let mut requests = queue.requests().await;
        let (pushed, first) = tokio::join!(queue.push(&hashes[2..], true), requests.recv());
        assert_eq!((pushed, first.unwrap().hash), (1, hashes[0]));
        let rest = [requests.recv().await.unwrap(), requests.recv().await.unwrap()];
        assert_eq!(rest.map(|request| (request.hash, request.recursive)), [(hashes[1], false), (hashes[2], true)]);
    }
}
