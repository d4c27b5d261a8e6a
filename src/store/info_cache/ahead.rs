//! Asking about references before clients do: whoever was given a narinfo asks for those of its references next.
//!
//! Owns the queue and its bounds. References are whole paths, so that one question each is enough, and many go out at
//! once on one connection. What was not known at all has references of its own, which join the queue: by the time a client
//! has walked to the second level of a closure most of it is known. What was known and has aged is asked about only if it
//! is a reference of what was served: a client that asks for one narinfo every minute does not refresh a whole closure.
//!
//! It is never in the way of a request: it takes a connection only if another one stays free, one at a time, gives it
//! back after each batch, and drops everything where it finds none for a while or the daemon fails.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;

use super::InfoCache;
use super::batch::{Asked, BATCH};
use crate::store::ValidPath;
use crate::sync::Mutex;

/// Paths that are asked about before the queue has been empty once: the closure of a desktop, and half a megabyte.
const MAX_SEEN: usize = 4096;
/// And no more than would take half of a small memory, at two kilobytes each.
const BYTES_EACH: usize = 4096;
/// What is told of and has not been taken yet: four batches.
const MAX_LEARNED: usize = 4 * BATCH;
/// Number of times that a free connection is looked for.
const BUSY_ATTEMPTS: usize = 100;

/// Paths to be asked about.
#[derive(Debug)]
pub(super) struct Ahead {
    queue: Mutex<Queue>,
    max_seen: usize,
    /// What was not known and is now.
    learned: mpsc::Sender<Arc<ValidPath>>,
    told: tokio::sync::Mutex<mpsc::Receiver<Arc<ValidPath>>>,
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
struct Offered {
    /// Whether there was room for all.
    is_whole: bool,
    /// Whether somebody has to begin with them.
    begins: bool,
}

impl Ahead {
    /// For a memory of so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        let (learned, told) = mpsc::channel(MAX_LEARNED);
        let max_seen = MAX_SEEN.min(max_bytes / BYTES_EACH);
        Self { queue: Mutex::default(), max_seen, learned, told: told.into() }
    }

    fn offer(&self, paths: Vec<StorePath>) -> Offered {
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
    fn next(&self) -> Option<Vec<StorePath>> {
        let mut queue = self.queue.lock();
        let length = queue.pending.len().min(BATCH);
        if length == 0 {
            *queue = Queue::default();
            return None;
        }
        Some(queue.pending.drain(..length).collect())
    }

    /// It is over, with whatever is left.
    fn stop(&self) {
        *self.queue.lock() = Queue::default();
    }
}

/// Ends a run of questions when it is dropped, be it by a panic: what is offered next begins another.
struct Run<'a>(&'a Ahead);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl InfoCache {
    /// Asks in the background about the references of a path that has just been given out, as far as they are not known.
    pub(in crate::store) fn ask_ahead(self: &Arc<Self>, valid: &ValidPath) {
        let hash = valid.path.hash_part();
        let unknown: Vec<_> = {
            let mut known = self.known();
            match known.find(&hash) {
                Some(entry) if !entry.is_walked => entry.is_walked = true,
                _ => return,
            }
            // With a ttl of 0 nothing that is asked ahead would ever be used.
            let wanted = |path: &StorePath| {
                let is_young = known.peek(&path.hash_part()).is_some_and(|known| self.is_young(known));
                *path != valid.path && !is_young && !self.ttl().is_zero()
            };
            valid.info.reference_paths().filter(wanted).collect()
        };
        let Offered { is_whole, begins } = self.ahead.offer(unknown);
        if begins {
            tokio::spawn(Arc::clone(self).run_ahead());
        }
        if !is_whole {
            // The rest is for when this is asked for again.
            if let Some(entry) = self.known().find(&hash) {
                entry.is_walked = false;
            }
        }
    }

    /// The next path that was not known and has been learned of; safe to drop.
    pub(in crate::store) async fn learned_ahead(&self) -> Option<Arc<ValidPath>> {
        self.ahead.told.lock().await.recv().await
    }

    async fn run_ahead(self: Arc<Self>) {
        let run = Run(&self.ahead);
        while let Some(paths) = self.ahead.next() {
            match self.ask_batch(paths, BUSY_ATTEMPTS).await {
                Ok(answers) => {
                    for Asked { answer, is_new, .. } in answers {
                        let Ok(Some(valid)) = answer else { continue };
                        self.metrics.asked_ahead();
                        if is_new {
                            self.ask_ahead(&valid);
                            // With many of them untaken, this one is made something of when it is asked for.
                            drop(self.ahead.learned.try_send(valid));
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!("not asking ahead: {error}");
                    return;
                }
            }
        }
        // It has ended by itself, and another may have begun.
        std::mem::forget(run);
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
        let ahead = Ahead::new(1 << 20);
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
        let ahead = Ahead::new(usize::MAX);
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
        assert!(!Ahead::new(0).offer(vec![path(0)]).begins);
    }
}
