//! The lease: paths that were given out stay alive, for a time and while their NARs are being sent.
//!
//! Owns what a request sees of it. [`Lease::extend`] is for a path whose narinfo is given out: it costs two loads where
//! the path is rooted already, and else a place in a queue, but never time. [`Lease::hold`] is for a NAR: it waits until
//! the root is set, though not for long. The roots are set by `keeper`, in a task of its own, which owns the connections
//! that they live on.
//!
//! - A path lives for at least the lease after it was last given out, and for at most one and a half of it and what the
//!   keeper needs to set a root.
//! - What is being sent lives for as long as that takes, however old its generation is: it is rooted again in each new one.
//! - After a root is set the daemon is asked whether the path is still valid. What is not is forgotten, so that the next
//!   one who asks is told the truth.
//! - Roots whose connection ends are set again on another, with their time as it was; others are not touched.
//! - Without roots everything works as with a lease of 0: whoever is late finds the path gone.

mod keeper;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::StorePath;
use tokio::sync::{mpsc, oneshot};

use super::info_cache::InfoCache;
use super::pool::Pool;
use super::{StoreError, ValidPath};
use crate::metrics::{LeaseEvent, Metrics};
use crate::process::supervisor::supervise;
use crate::sync::Mutex;
use keeper::Keeper;

/// Paths that wait for their roots. The daemon roots them faster than it answers for them, so that even a crawl does not
/// fill it; a NAR's place is in a queue of its own.
const QUEUE: usize = 4096;
const URGENT_QUEUE: usize = 1024;
/// How long a NAR waits for its root: Nix 2.3 sets none while it collects garbage.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a path stands with the lease: the number of a generation, twice, and 1 if its root is set there.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

impl Mark {
    fn is_of(&self, generation: u64) -> bool {
        self.0.load(Ordering::Relaxed) >> 1 == generation
    }

    fn is_rooted_in(&self, generations: &[u64]) -> bool {
        let mark = self.0.load(Ordering::Relaxed);
        mark & 1 == 1 && generations.contains(&(mark >> 1))
    }

    /// Whether it was of another generation until now.
    fn wish(&self, generation: u64) -> bool {
        self.0.swap(generation << 1, Ordering::Relaxed) >> 1 != generation
    }

    fn root(&self, generation: u64) {
        self.0.store(generation << 1 | 1, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Keeps paths of one store alive.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<Ledger>,
    wishes: mpsc::Sender<Wish>,
    urgent: mpsc::Sender<Wish>,
    metrics: Arc<Metrics>,
}

/// A path to be rooted, and who waits for it: told whether the path is valid then, or nothing if it cannot be rooted.
#[derive(Debug)]
struct Wish {
    valid: Arc<ValidPath>,
    waiting: Option<oneshot::Sender<bool>>,
}

/// What requests and the keeper share.
#[derive(Debug)]
struct Ledger {
    /// The generation that paths are rooted in now; generations count from 1.
    intake: AtomicU64,
    sending: Mutex<Sending>,
    /// Whether the last one who waited for a root waited in vain; nobody else waits then.
    is_stuck: AtomicBool,
}

#[derive(Debug)]
struct Sending {
    /// How many NARs of each path are being sent.
    paths: HashMap<StorePath, usize>,
    /// The generations whose roots hold. Under this lock, so that no NAR begins by one that is just ending.
    living: Vec<u64>,
}

impl Ledger {
    fn new() -> Self {
        let sending = Mutex::new(Sending { paths: HashMap::new(), living: Vec::new() });
        Self { intake: AtomicU64::new(1), sending, is_stuck: AtomicBool::new(false) }
    }

    fn intake(&self) -> u64 {
        self.intake.load(Ordering::Relaxed)
    }

    /// Every root is gone, as at the beginning: each path that is given out is wished for again.
    fn start_over(&self) {
        self.sending().living.clear();
        self.intake.fetch_add(1, Ordering::Relaxed);
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock()
    }
}

impl Lease {
    /// Of this length, which is not 0. Must be called in a runtime.
    pub(super) fn new(length: Duration, pool: &Arc<Pool>, infos: &Arc<InfoCache>, metrics: &Arc<Metrics>) -> Self {
        let ledger = Arc::new(Ledger::new());
        let (wishes, queue) = mpsc::channel(QUEUE);
        let (urgent, urgent_queue) = mpsc::channel(URGENT_QUEUE);
        let queues = Arc::new(tokio::sync::Mutex::new((queue, urgent_queue)));
        supervise("gc lease", {
            let (ledger, pool) = (Arc::clone(&ledger), Arc::clone(pool));
            let (infos, metrics) = (Arc::clone(infos), Arc::clone(metrics));
            move || {
                ledger.start_over();
                let (ledger, pool) = (Arc::clone(&ledger), Arc::clone(&pool));
                let keeper = Keeper::new(length, ledger, pool, Arc::clone(&infos), Arc::clone(&metrics));
                let queues = Arc::clone(&queues);
                async move {
                    let (wishes, urgent) = &mut *queues.lock().await;
                    keeper.run(wishes, urgent).await;
                }
            }
        });
        Self { ledger, wishes, urgent, metrics: Arc::clone(metrics) }
    }

    /// The path has been given out: its lease begins anew.
    pub(super) fn extend(&self, valid: &Arc<ValidPath>) {
        let intake = self.ledger.intake();
        if valid.mark.is_of(intake) || !valid.mark.wish(intake) {
            return;
        }
        if self.wishes.try_send(Wish { valid: Arc::clone(valid), waiting: None }).is_err() {
            // Whoever asks next tries again.
            valid.mark.clear();
            self.metrics.lease(LeaseEvent::Full, 1);
        }
    }

    /// Keeps the path alive until the result is dropped. An error says that the path is not valid any more; where it
    /// merely cannot be kept alive it is held all the same, and kept as soon as it can.
    pub(super) async fn hold(&self, valid: &Arc<ValidPath>) -> Result<Held, StoreError> {
        let held = Held { ledger: Arc::clone(&self.ledger), path: valid.path.clone() };
        let is_rooted = {
            let mut sending = self.ledger.sending();
            *sending.paths.entry(held.path.clone()).or_default() += 1;
            valid.mark.is_rooted_in(&sending.living)
        };
        if is_rooted {
            return Ok(held);
        }
        let (waiting, told) = oneshot::channel();
        let is_queued = self.urgent.try_send(Wish { valid: Arc::clone(valid), waiting: Some(waiting) }).is_ok();
        if is_queued && !self.ledger.is_stuck.load(Ordering::Relaxed) {
            match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok(false)) => return Err(StoreError::NotValid(valid.path.clone())),
                Ok(Ok(true) | Err(_)) => {}
                Err(_) => self.ledger.is_stuck.store(true, Ordering::Relaxed),
            }
        }
        Ok(held)
    }
}

/// A path that is kept alive.
#[derive(Debug)]
pub(super) struct Held {
    ledger: Arc<Ledger>,
    path: StorePath,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut sending = self.ledger.sending();
        if let Some(count) = sending.paths.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                sending.paths.remove(&self.path);
            }
        }
    }
}
