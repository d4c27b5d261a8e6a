//! Log lines about failed requests, throttled: an outage of nix-daemon fails every request at once.
//!
//! Repeated errors of one kind are counted in one line. At `harmonia=debug` the log has all of them. A 502 or 503 carries
//! the id of its request, which its line names.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use tracing::Level;

use crate::http::error::HandlerError;
use crate::http::error_reason::Reason;
use crate::sync::LogThrottle;

/// Writes errors to the log, repeated ones as one line.
#[derive(Debug, Default)]
pub(crate) struct ThrottledErrorLog {
    requests: AtomicU64,
    lines: LogThrottle<(Event, Reason)>,
}

/// Consequence of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    /// The response is an error.
    RequestFailed,
    /// The body ended early.
    BodyAborted,
}

impl ThrottledErrorLog {
    /// Returns an id for a request that has none.
    pub(crate) fn new_request_id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Logs the error of a request for `target` that is answered with `status`; the response carries the request's `id`.
    pub(crate) fn request_failed(&self, target: &str, status: StatusCode, error: &HandlerError, id: &str) {
        // Debug formatting escapes the target: a client cannot forge a line.
        self.log(
            Event::RequestFailed,
            &format_args!("request {id} for {target:?} answered {}", status.as_u16()),
            error,
        );
    }

    /// Logs the error that ended the body of a response to a request for `target` early.
    pub(crate) fn body_aborted(&self, target: &str, error: &HandlerError) {
        self.log(Event::BodyAborted, &format_args!("body of {target:?} aborted"), error);
    }

    fn log(&self, event: Event, what: &std::fmt::Arguments<'_>, error: &HandlerError) {
        match self.lines.admit((event, error.reason())) {
            None => tracing::debug!("{what}: {error}"),
            Some(more) if error.level() == Level::WARN => tracing::warn!("{what}{more}: {error}"),
            Some(more) => tracing::error!("{what}{more}: {error}"),
        }
    }
}
