//! Metrics of the audit log.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

#[derive(Debug)]
pub(crate) struct AuditLogMetrics {
    dropped: Counter,
}

impl AuditLogMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let dropped = Counter::default();
        registry.register("audit_log_dropped", "Audit log lines that were dropped", dropped.clone());
        Self { dropped }
    }

    /// Records audit log lines that were dropped.
    pub(crate) fn record_dropped(&self, lines: u64) {
        self.dropped.inc_by(lines);
    }
}
