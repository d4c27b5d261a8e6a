//! What is counted of the lease, which keeps paths from the garbage collector.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, ResultLabel};

/// What becomes of a path that is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The daemon has set its root.
    Rooted,
    /// There was no room for it.
    Full,
    /// The daemon did not.
    Failed,
}

#[derive(Debug)]
pub(super) struct LeaseMetrics {
    rooted: Counter,
    full: Counter,
    failed: Counter,
    roots: Gauge,
}

impl LeaseMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let paths = Family::<ResultLabel, Counter>::default();
        registry.register("gc_root_requests", "Paths to be kept from the garbage collector", paths.clone());
        let of = |result| paths.get_or_create_owned(&ResultLabel { result });
        let (rooted, full, failed) = (of("rooted"), of("full"), of("failed"));
        let roots = Gauge::default();
        let help = "Temporary roots that nix-daemon holds for this server, a path once per generation";
        registry.register("gc_roots", help, roots.clone());
        Self { rooted, full, failed, roots }
    }
}

impl Metrics {
    /// This has become of so many paths that were to be kept.
    pub fn lease(&self, event: LeaseEvent, paths: usize) {
        let counter = match event {
            LeaseEvent::Rooted => &self.lease.rooted,
            LeaseEvent::Full => &self.lease.full,
            LeaseEvent::Failed => &self.lease.failed,
        };
        counter.inc_by(paths as u64);
    }

    /// How many roots there are now.
    pub fn leased(&self, roots: usize) {
        self.lease.roots.set(i64::try_from(roots).unwrap_or(i64::MAX));
    }
}
