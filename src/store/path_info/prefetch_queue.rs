//! The queue of paths to be prefetched, and its bounds.

use crate::sync::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;

/// Questions that go out at once: milliseconds of the daemon's time, which a request for one of them waits for.
pub(crate) const BATCH: usize = 64;
/// Paths that are asked about before the queue has been empty once: the closure of a desktop, and half a megabyte.
const MAX_SEEN: usize = 4096;
/// And no more than would take half of a small memory, at two kilobytes each.
const BYTES_EACH: usize = 4096;
/// What is told of and has not been taken yet: four batches.
const MAX_LEARNED: usize = 4 * BATCH;
/// Paths to be asked about.
#[derive(Debug)]
pub(crate) struct PrefetchQueue {
    queue: Mutex<Queue>,
    max_seen: usize,
    /// What was not known and is now.
    pub(crate) learned: mpsc::Sender<Arc<ValidPath>>,
    pub(crate) told: tokio::sync::Mutex<mpsc::Receiver<Arc<ValidPath>>>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<StorePath>,
    /// All that were pending since the queue was empty: none comes twice, even if it is forgotten meanwhile.
    seen: HashSet<HashPart>,
    is_running: bool,
}

/// What became of an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Whether there was room for all.
    pub(crate) is_whole: bool,
    /// Whether somebody has to begin with them.
    pub(crate) begins: bool,
}

impl PrefetchQueue {
    /// For a memory of so many bytes.
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

    /// The next paths; with nothing left it is over, until something is offered again.
    pub(crate) fn next(&self) -> Option<Vec<StorePath>> {
        let mut queue = self.queue.lock();
        let length = queue.pending.len().min(BATCH);
        if length == 0 {
            *queue = Queue::default();
            return None;
        }
        Some(queue.pending.drain(..length).collect())
    }

    /// It is over, with whatever is left.
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
