//! The queue of the audit log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::error::AuditLogError;
use super::event::{AuditedRequest, Event, Kind};
use super::shared::Shared;
use super::writer::{Message, Sink, Writer};
use crate::config::{AuditConfig, OnFailure};
use crate::metrics::Metrics;
use crate::sync::LogThrottle;

/// Events that may wait for the writer, of up to 2 KiB each.
const QUEUE: usize = 8192;
/// Time that the end of the program waits for unwritten lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two attempts to enter a full queue at the end.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// The audit log. Recording an event never blocks.
#[derive(Debug)]
pub(crate) struct AuditLog {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    drop_errors: LogThrottle<()>,
}

impl AuditLog {
    /// Opens the file and starts the writer thread.
    pub(crate) fn open(config: &AuditConfig, metrics: &Arc<Metrics>) -> Result<Arc<Self>, AuditLogError> {
        let sink = Sink::open(config)?;
        let shared = Shared::new(config.clone(), Arc::clone(metrics));
        let (queue, messages) = sync_channel(QUEUE);
        let writer = Writer::new(sink, Arc::clone(&shared));
        let thread = thread::Builder::new().name("audit log".to_owned());
        thread.spawn(move || writer.run(&messages)).map_err(AuditLogError::Start)?;
        Ok(Arc::new(Self { queue, shared, drop_errors: LogThrottle::default() }))
    }

    /// Checks that the file can be opened, and creates it like [`Self::open`].
    pub(crate) fn check(config: &AuditConfig) -> Result<(), AuditLogError> {
        Sink::open(config).map(drop)
    }

    /// Returns whether a request that has to be recorded may be answered. It may not while lines cannot be written, if the operator
    /// wants it so.
    #[must_use]
    pub(crate) fn accepts_requests(&self) -> bool {
        if !self.shared.is_failing() {
            return true;
        }
        // If the queue is full, the writer is busy anyway.
        let _ = self.queue.try_send(Message::Retry);
        self.shared.config.lock().on_failure == OnFailure::Warn
    }

    /// Records that the server listens.
    pub(crate) fn started(&self) {
        self.send(Event::of_program(Kind::Start));
    }

    /// Records that a principal was sent these bytes of a body.
    pub(crate) fn read(&self, request: AuditedRequest, status: u16, bytes: u64) {
        self.send(Event::of_request(Kind::Read, request, status, bytes, None));
    }

    /// Records that a request was refused.
    pub(crate) fn refused(&self, request: AuditedRequest, status: u16, reason: &str) {
        self.send(Event::of_request(Kind::Refused, request, status, 0, Some(reason)));
    }

    /// Records that a principal pushed a path, or a file, of this many bytes.
    pub(crate) fn pushed(&self, request: AuditedRequest, status: u16, bytes: u64) {
        self.send(Event::of_request(Kind::Push, request, status, bytes, None));
    }

    /// Records that a push was refused after this many bytes.
    pub(crate) fn push_refused(&self, request: AuditedRequest, status: u16, bytes: u64, reason: &str) {
        self.send(Event::of_request(Kind::PushRefused, request, status, bytes, Some(reason)));
    }

    /// Reopens the file with this configuration, which may have been rotated, and records the reload.
    pub(crate) fn reload(&self, config: &AuditConfig) {
        self.shared.config.lock().clone_from(config);
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.send(Event::of_program(Kind::Reload));
    }

    /// Records the end of the program, and waits until everything is written, for at most two seconds.
    pub(crate) async fn close(&self) {
        self.send(Event::of_program(Kind::Stop));
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            let mut message = Message::Flush(done);
            while let Err(error) = self.queue.try_send(message) {
                message = match error {
                    std::sync::mpsc::TrySendError::Full(message) => message,
                    std::sync::mpsc::TrySendError::Disconnected(_) => return false,
                };
                sleep(FLUSH_INTERVAL).await;
            }
            is_done.await.unwrap_or(false)
        };
        if !timeout(FLUSH_TIMEOUT, flushed).await.unwrap_or(false) {
            tracing::error!("lost the last lines of the audit log: they could not be written within {FLUSH_TIMEOUT:?}");
        }
    }

    fn send(&self, event: Event) {
        if self.queue.try_send(Message::Event(Box::new(event))).is_ok() {
            return;
        }
        self.shared.set_failing(true);
        self.shared.metrics.audit_log.record_dropped(1);
        if let Some(more) = self.drop_errors.admit(()) {
            tracing::error!("dropped a line of the audit log{more}: the queue is full");
        }
    }
}

#[cfg(test)]
mod tests;
