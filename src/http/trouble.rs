//! Errors of requests on their way to the log: one line per event, not per request, since trouble with the daemon meets
//! every request at once.
//!
//! Each error that is a response has an id, which the response carries. At `harmonia=debug` the log has all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use tracing::Level;

use super::error::HandlerError;
use super::reason::Reason;
use crate::sync::LogThrottle;

/// Writes errors to the log.
#[derive(Debug, Default)]
pub(super) struct TroubleLog {
    requests: AtomicU64,
    lines: LogThrottle<(Event, Reason)>,
}

/// What an error came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    /// There was no response but an error status.
    Unanswered,
    /// The body ended early.
    Aborted,
}

impl TroubleLog {
    /// An id for a request that has none yet.
    pub(super) fn new_id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Reports the error of a request for `target` that is answered `status`. The response carries the request's `id`.
    pub(super) fn report(&self, target: &str, status: StatusCode, error: &HandlerError, id: &str) {
        // Debug formatting of the target: a client cannot forge a line.
        self.log(Event::Unanswered, &format_args!("request {id} for {target:?} answered {}", status.as_u16()), error);
    }

    /// Reports that the body of a response to a request for `target` ended early.
    pub(super) fn aborted(&self, target: &str, error: &HandlerError) {
        self.log(Event::Aborted, &format_args!("body of {target:?} aborted"), error);
    }

    fn log(&self, event: Event, what: &std::fmt::Arguments<'_>, error: &HandlerError) {
        match self.lines.admit((event, error.reason())) {
            None => tracing::debug!("{what}: {error}"),
            Some(more) if error.level() == Level::WARN => tracing::warn!("{what}{more}: {error}"),
            Some(more) => tracing::error!("{what}{more}: {error}"),
        }
    }
}
