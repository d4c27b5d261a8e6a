//! The queue of paths to be prefetched, and its bounds.

use crate::sync::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;

/// Upper bound of queries in one pipeline: milliseconds of nix-daemon's time, which a request for one of them waits
/// for.
pub(crate) const BATCH: usize = 64;
/// Upper bound of paths until the queue is empty: the closure of a desktop, and half a megabyte.
const MAX_SEEN: usize = 4096;
/// Bytes of the cache per path, so that a run fills no more than half of a small cache.
const BYTES_EACH: usize = 4096;
/// Capacity of the channel of prefetched paths: four batches.
const MAX_LEARNED: usize = 4 * BATCH;
/// Queue of paths to be queried.
#[derive(Debug)]
pub(crate) struct PrefetchQueue {
    queue: Mutex<Queue>,
    max_seen: usize,
    /// Prefetched paths that were not cached before.
    pub(crate) learned: mpsc::Sender<Arc<ValidPath>>,
    pub(crate) told: tokio::sync::Mutex<mpsc::Receiver<Arc<ValidPath>>>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<StorePath>,
    /// Paths queued since the queue was empty. None is queued twice, even if it is evicted meanwhile.
    seen: HashSet<HashPart>,
    is_running: bool,
}

/// Result of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Whether all paths were queued.
    pub(crate) is_whole: bool,
    /// Whether the caller has to start a run.
    pub(crate) begins: bool,
}

impl PrefetchQueue {
    /// Creates a queue for a cache of `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (learned, told) = mpsc::channel(MAX_LEARNED);
        let max_seen = MAX_SEEN.min(max_bytes / BYTES_EACH);
        Self { queue: Mutex::default(), max_seen, learned, told: told.into() }
    }

    pub(crate) fn offer(&self, paths: Vec<StorePath>) -> Offered {
        let mut queue = self.queue.lock();
        let mut is_whole = true;
        for path in paths {
            let hash = path.hash_part();
            if queue.seen.contains(&hash) {
                continue;
            }
            if queue.seen.len() >= self.max_seen {
                is_whole = false;
                break;
            }
            queue.seen.insert(hash);
            queue.pending.push_back(path);
        }
        let begins = !queue.is_running && !queue.pending.is_empty();
        queue.is_running |= begins;
        Offered { is_whole, begins }
    }

    /// Returns the next paths. `None` ends the run, until the next offer.
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
    fn what_was_pending_comes_once_and_again_after_the_end() {
        let ahead = PrefetchQueue::new(1 << 20);
        assert_eq!(ahead.offer(vec![path(1), path(2), path(1)]), Offered { is_whole: true, begins: true });
        assert_eq!(ahead.next(), Some(vec![path(1), path(2)]));
        assert_eq!(ahead.offer(vec![path(2), path(3)]), Offered { is_whole: true, begins: false });
        assert_eq!(ahead.next(), Some(vec![path(3)]));
        assert_eq!(ahead.next(), None);
        assert_eq!(ahead.offer(vec![path(1)]), Offered { is_whole: true, begins: true });
        ahead.stop();
        assert_eq!(ahead.next(), None);
    }

    #[test]
    fn a_closure_without_end_is_walked_up_to_a_bound() {
        let ahead = PrefetchQueue::new(usize::MAX);
        let mut offered = 0;
        let mut asked = 0;
        let mut next = || {
            offered += 2;
            vec![path(offered), path(offered + 1)]
        };
        assert!(ahead.offer(next()).begins);
        while let Some(batch) = ahead.next() {
            assert!(batch.len() <= BATCH);
            asked += batch.len();
            for _ in batch {
                ahead.offer(next());
            }
        }
        assert_eq!(asked, MAX_SEEN);
        assert!(!ahead.offer((0..=MAX_SEEN).map(path).collect()).is_whole);
        assert!(!PrefetchQueue::new(0).offer(vec![path(0)]).begins);
    }
}
