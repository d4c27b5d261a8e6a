//! State that the queue and the writer thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::config::AuditConfig;
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// State of the queue and the writer thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Mutex<AuditConfig>,
    /// Number of changes of the configuration.
    pub(super) generation: AtomicU64,
    /// Whether the last lines could not be written, or not be queued.
    is_failing: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
}

impl Shared {
    pub(super) fn new(config: AuditConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            config: Mutex::new(config),
            generation: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            metrics,
        })
    }

    /// Returns whether the last lines could not be written, or not be queued.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    pub(super) fn set_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Release);
        self.metrics.audit_log.set_failing(is_failing);
    }
}
