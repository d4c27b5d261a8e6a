//! State that all uploads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::config::PushConfig;
use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::metrics::{Metrics, PushMetrics};
use crate::push::spool::Spool;
use crate::push::{PushRules, Pusher};

/// Time for which an upload waits for its turn: far less than the 300 s after which Nix gives up, and long enough that few have
/// to come again.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// Uploads that may wait for each that may run, so that those beyond are told at once. Each waiting one holds what its connection
/// has received.
const WAITING: usize = 8;

/// State that all uploads share: the spool, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Uploads {
    spool: Arc<Spool>,
    pusher: Pusher,
    turns: FairSemaphore,
    at_once: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Uploads {
    /// Creates the state for a spool.
    pub(crate) fn new(config: &PushConfig, spool: Arc<Spool>, pusher: Pusher, metrics: &Arc<Metrics>) -> Self {
        metrics.push.set_spool_limit(config.max_spool_size.bytes());
        Self {
            spool,
            pusher,
            turns: FairSemaphore::new("uploads", config.max_uploads, metrics),
            at_once: config.max_uploads.into(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Applies changed limits to later uploads.
    pub(crate) fn apply_config(&self, config: &PushConfig, rules: PushRules) {
        self.pusher.set_rules(rules, config.keep);
        self.spool.set_limits(config.into());
        self.metrics.push.set_spool_limit(config.max_spool_size.bytes());
        self.turns.resize(config.max_uploads, usize::MAX);
        self.at_once.store(config.max_uploads, Ordering::Relaxed);
    }

    /// Returns the spool.
    pub(crate) const fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// Returns what adds pushed paths to the store.
    pub(crate) const fn pusher(&self) -> &Pusher {
        &self.pusher
    }

    pub(crate) fn metrics(&self) -> &PushMetrics {
        &self.metrics.push
    }

    /// Updates the gauges.
    pub(crate) fn update_metrics(&self) {
        let (bytes, files) = self.spool.usage();
        self.metrics.push.set_spool(bytes, files);
    }

    /// Waits for a turn. `None` if too many others wait, or for too long.
    pub(crate) async fn turn(&self, client: ClientId) -> Option<Permit> {
        let most = self.at_once.load(Ordering::Relaxed).saturating_mul(WAITING);
        if self.turns.waiting() >= most {
            return None;
        }
        timeout(TURN_TIMEOUT, self.turns.acquire(client, 1)).await.ok()
    }
}
