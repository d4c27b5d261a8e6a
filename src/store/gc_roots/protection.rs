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
use crate::store::gc_roots::rooter::Rooter;
use crate::store::gc_roots::shared::{RootGuard, RootRequest, Shared};
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::valid_path::ValidPath;

/// Capacity of the queue of served paths. nix-daemon sets roots faster than it replies to queries, so that even a crawl
/// does not fill it.
const QUEUE: usize = 4096;
/// Capacity of the queue of paths whose NARs are requested.
const URGENT_QUEUE: usize = 1024;
/// Time that a NAR waits for its root: Nix 2.3 sets none while it collects garbage.
const ROOT_TIMEOUT: Duration = Duration::from_secs(1);

/// Protects paths of one store from the garbage collector.
#[derive(Debug)]
pub(crate) struct GcRoots {
    shared: Arc<Shared>,
    requests: mpsc::Sender<RootRequest>,
    urgent: mpsc::Sender<RootRequest>,
    metrics: Arc<Metrics>,
}

impl GcRoots {
    /// Starts the task that protects paths for `length`, which must not be 0. Must be called in a Tokio runtime.
    pub(crate) fn new(
        length: Duration,
        pool: &Arc<Pool>,
        path_infos: &Arc<PathInfoCache>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let shared = Arc::new(Shared::new());
        let (requests, queue) = mpsc::channel(QUEUE);
        let (urgent, urgent_queue) = mpsc::channel(URGENT_QUEUE);
        let queues = Arc::new(tokio::sync::Mutex::new((queue, urgent_queue)));
        supervise("GC roots", {
            let (shared, pool) = (Arc::clone(&shared), Arc::clone(pool));
            let (path_infos, metrics) = (Arc::clone(path_infos), Arc::clone(metrics));
            move || {
                shared.start_over();
                let (shared, pool) = (Arc::clone(&shared), Arc::clone(&pool));
                let rooter = Rooter::new(length, shared, pool, Arc::clone(&path_infos), Arc::clone(&metrics));
                let queues = Arc::clone(&queues);
                async move {
                    let (requests, urgent) = &mut *queues.lock().await;
                    rooter.run(requests, urgent).await;
                }
            }
        });
        Self { shared, requests, urgent, metrics: Arc::clone(metrics) }
    }

    /// Extends the protection of a served path, without waiting for its root.
    pub(crate) fn extend(&self, valid: &Arc<ValidPath>) {
        let current = self.shared.current();
        if valid.root_state.is_requested_in(current) || !valid.root_state.request(current) {
            return;
        }
        if self.requests.try_send(RootRequest { valid: Arc::clone(valid), reply_to: None }).is_err() {
            // The next request tries again.
            valid.root_state.clear();
            self.metrics.gc_roots.record(RootOutcome::Full, 1);
        }
    }

    /// Protects the path until the result is dropped. Waits up to a second for its root, which may also be set later.
    ///
    /// Fails if the path is no longer valid.
    pub(crate) async fn protect(&self, valid: &Arc<ValidPath>) -> Result<RootGuard, StoreError> {
        let guard = RootGuard { shared: Arc::clone(&self.shared), path: valid.path.clone() };
        let is_rooted = {
            let mut sending = self.shared.sending();
            *sending.paths.entry(guard.path.clone()).or_default() += 1;
            valid.root_state.is_rooted_in(&sending.connected)
        };
        if is_rooted {
            return Ok(guard);
        }
        let (reply_to, receiver) = oneshot::channel();
        let is_queued =
            self.urgent.try_send(RootRequest { valid: Arc::clone(valid), reply_to: Some(reply_to) }).is_ok();
        if is_queued && !self.shared.is_stuck.load(Ordering::Relaxed) {
            match tokio::time::timeout(ROOT_TIMEOUT, receiver).await {
                Ok(Ok(false)) => return Err(StoreError::NotValid(valid.path.clone())),
                Ok(Ok(true) | Err(_)) => {}
                Err(_) => self.shared.is_stuck.store(true, Ordering::Relaxed),
            }
        }
        Ok(guard)
    }
}
