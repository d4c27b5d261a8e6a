//! Protection of paths that were served or are being sent.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::metrics::{Metrics, RootOutcome};
use crate::process::supervisor::supervise;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::gc_roots::rooter::Keeper;
use crate::store::gc_roots::shared::{Held, Ledger, Wish};
use crate::store::path_info::cache::InfoCache;
use crate::store::path_info::valid_path::ValidPath;

/// Paths that wait for their roots. The daemon roots them faster than it answers for them, so that even a crawl does not
/// fill it; a NAR's place is in a queue of its own.
const QUEUE: usize = 4096;
const URGENT_QUEUE: usize = 1024;
/// How long a NAR waits for its root: Nix 2.3 sets none while it collects garbage.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps paths of one store alive.
#[derive(Debug)]
pub(crate) struct Lease {
    ledger: Arc<Ledger>,
    wishes: mpsc::Sender<Wish>,
    urgent: mpsc::Sender<Wish>,
    metrics: Arc<Metrics>,
}

impl Lease {
    /// Of this length, which is not 0. Must be called in a runtime.
    pub(crate) fn new(length: Duration, pool: &Arc<Pool>, infos: &Arc<InfoCache>, metrics: &Arc<Metrics>) -> Self {
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
    pub(crate) fn extend(&self, valid: &Arc<ValidPath>) {
        let intake = self.ledger.intake();
        if valid.mark.is_of(intake) || !valid.mark.wish(intake) {
            return;
        }
        if self.wishes.try_send(Wish { valid: Arc::clone(valid), waiting: None }).is_err() {
            // Whoever asks next tries again.
            valid.mark.clear();
            self.metrics.gc_roots.record(RootOutcome::Full, 1);
        }
    }

    /// Keeps the path alive until the result is dropped. An error says that the path is not valid any more; where it
    /// merely cannot be kept alive it is held all the same, and kept as soon as it can.
    pub(crate) async fn hold(&self, valid: &Arc<ValidPath>) -> Result<Held, StoreError> {
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
