//! State that the queue and the writer thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

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
    pub(super) is_failing: AtomicBool,
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
}
