//! Metrics of the audit log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug)]
pub(crate) struct AuditLogMetrics {
    dropped: Counter,
    failing: Gauge,
}

impl AuditLogMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let dropped = Counter::default();
        registry.register("audit_log_dropped", "Audit log lines that were dropped", dropped.clone());
        let failing = Gauge::default();
        registry.register("audit_log_failing", "1 while the audit log cannot be written, else 0", failing.clone());
        Self { dropped, failing }
    }

    /// Records audit log lines that were dropped.
    pub(crate) fn record_dropped(&self, lines: u64) {
        self.dropped.inc_by(lines);
    }

    /// Records whether lines cannot be written.
    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.failing.set(is_failing.into());
    }
}
