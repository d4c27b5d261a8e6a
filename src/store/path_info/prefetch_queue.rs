//! Bounded queue of paths to be prefetched.

use crate::sync::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;

/// Maximal number of queries in one pipeline: a client that requests one of the paths waits for all of them, some
/// milliseconds.
pub(crate) const BATCH: usize = 64;
/// Maximal number of paths per run: the closure of a desktop system, and 500 kB.
const MAX_QUEUED: usize = 4096;
/// Cache size per path of a run, in bytes, so that a run fills at most half of a small cache.
const BYTES_EACH: usize = 4096;
/// Capacity of the channel of prefetched paths: four batches.
const MAX_UNTAKEN: usize = 4 * BATCH;

/// Queue of paths to be queried.
#[derive(Debug)]
pub(crate) struct PrefetchQueue {
    queue: Mutex<Queue>,
    max_queued: usize,
    /// Sends prefetched paths that were not cached before to `receiver`.
    pub(crate) sender: mpsc::Sender<Arc<ValidPath>>,
    pub(crate) receiver: tokio::sync::Mutex<mpsc::Receiver<Arc<ValidPath>>>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<StorePath>,
    /// All paths queued in this run. None is queued twice, even if the cache evicts it meanwhile.
    queued: HashSet<HashPart>,
    is_running: bool,
}

/// Result of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Whether all paths were queued.
    pub(crate) is_complete: bool,
    /// Whether the caller has to start a run.
    pub(crate) starts_run: bool,
}

impl PrefetchQueue {
    /// Creates a queue for a cache of `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_UNTAKEN);
        let max_queued = MAX_QUEUED.min(max_bytes / BYTES_EACH);
        Self { queue: Mutex::default(), max_queued, sender, receiver: receiver.into() }
    }

    /// Queues the paths that were not queued in this run.
    pub(crate) fn offer(&self, paths: Vec<StorePath>) -> Offered {
        let mut queue = self.queue.lock();
        let mut is_complete = true;
        for path in paths {
            let hash = path.hash_part();
            if queue.queued.contains(&hash) {
                continue;
            }
            if queue.queued.len() >= self.max_queued {
                is_complete = false;
                break;
            }
            queue.queued.insert(hash);
            queue.pending.push_back(path);
        }
        let starts_run = !queue.is_running && !queue.pending.is_empty();
        queue.is_running |= starts_run;
        Offered { is_complete, starts_run }
    }

    /// Returns the next batch. `None` ends the run.
    pub(crate) fn next(&self) -> Option<Vec<StorePath>> {
        let mut queue = self.queue.lock();
        let length = queue.pending.len().min(BATCH);
        if length == 0 {
            *queue = Queue::default();
            return None;
        }
        Some(queue.pending.drain(..length).collect())
    }

    /// Ends the run and drops what is queued.
    pub(crate) fn stop(&self) {
        *self.queue.lock() = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{number:032}-path")).unwrap()
    }

    #[test]
    fn a_path_is_queued_once_per_run() {
        let queue = PrefetchQueue::new(1 << 20);
        assert_eq!(queue.offer(vec![path(1), path(2), path(1)]), Offered { is_complete: true, starts_run: true });
        assert_eq!(queue.next(), Some(vec![path(1), path(2)]));
        assert_eq!(queue.offer(vec![path(2), path(3)]), Offered { is_complete: true, starts_run: false });
        assert_eq!(queue.next(), Some(vec![path(3)]));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.offer(vec![path(1)]), Offered { is_complete: true, starts_run: true });
        queue.stop();
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn an_endless_closure_is_prefetched_up_to_the_limit() {
        let queue = PrefetchQueue::new(usize::MAX);
        let mut offered = 0;
        let mut prefetched = 0;
        let mut next = || {
            offered += 2;
            vec![path(offered), path(offered + 1)]
        };
        assert!(queue.offer(next()).starts_run);
        while let Some(batch) = queue.next() {
            assert!(batch.len() <= BATCH);
            prefetched += batch.len();
            for _ in batch {
                queue.offer(next());
            }
        }
        assert_eq!(prefetched, MAX_QUEUED);
        assert!(!queue.offer((0..=MAX_QUEUED).map(path).collect()).is_complete);
        assert!(!PrefetchQueue::new(0).offer(vec![path(0)]).starts_run);
    }
}
