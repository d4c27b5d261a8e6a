//! Metrics of views.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};

#[derive(Debug)]
pub(crate) struct ViewMetrics {
    complete: Counter,
    failed: Counter,
    paths: Gauge,
}

impl ViewMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let scans = Family::<ResultLabel, Counter>::default();
        registry.register("view_scans", "Scans of the roots of a view, by result", scans.clone());
        let paths = Gauge::default();
        registry.register("view_paths", "Store paths in at least one view", paths.clone());
        let scans = |result| scans.get_or_create_owned(&ResultLabel { result });
        Self { complete: scans("complete"), failed: scans("failed"), paths }
    }

    /// Counts a scan, after which this many paths are in some view. One that failed may have missed paths.
    pub(crate) fn record_scan(&self, is_complete: bool, paths: usize) {
        if is_complete { &self.complete } else { &self.failed }.inc();
        self.paths.set(gauge_value(paths));
    }
}
