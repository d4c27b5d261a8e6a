//! Metrics of GC protection.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};

/// Outcome of a request for a GC root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootOutcome {
    /// nix-daemon has set the root.
    Rooted,
    /// The limit on roots or requests was reached.
    Full,
    /// nix-daemon has not set the root.
    Failed,
}

#[derive(Debug)]
pub(crate) struct GcRootMetrics {
    rooted: Counter,
    full: Counter,
    failed: Counter,
    roots: Gauge,
}

impl GcRootMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<ResultLabel, Counter>::default();
        registry.register("gc_root_requests", "Requests for a temporary GC root, by result", requests.clone());
        let requests = |result| requests.get_or_create_owned(&ResultLabel { result });
        let (rooted, full, failed) = (requests("rooted"), requests("full"), requests("failed"));
        let roots = Gauge::default();
        let help = "Temporary GC roots held by nix-daemon for this server; a path counts once per generation";
        registry.register("gc_roots", help, roots.clone());
        Self { rooted, full, failed, roots }
    }

    /// Counts requests with the same outcome.
    pub(crate) fn record(&self, outcome: RootOutcome, requests: usize) {
        let counter = match outcome {
            RootOutcome::Rooted => &self.rooted,
            RootOutcome::Full => &self.full,
            RootOutcome::Failed => &self.failed,
        };
        counter.inc_by(requests as u64);
    }

    /// Sets the number of roots.
    pub(crate) fn set_roots(&self, roots: usize) {
        self.roots.set(gauge_value(roots));
    }
}
