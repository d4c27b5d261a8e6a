//! Metrics of a request, from its head to the end of the response body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::fairness::Requester;
use crate::http::access_log_entry::AccessLogEntry;
use crate::http::active_responses::{ActiveResponse, ActiveResponses, ResponseInfo};
use crate::http::audit_entry::AuditEntry;
use crate::http::error::HandlerError;
use crate::http::error_log::ThrottledErrorLog;
use crate::http::request::route::Route;
use crate::http::response::body::{Body, Response};
use crate::http::response::reclaimable_body::{ReclaimableBody, SendError};
use crate::metrics::{self, AbortedBy, InFlight, Metrics};

/// Metrics of a request without a response.
pub(crate) struct RequestMetrics {
    metrics: Arc<Metrics>,
    in_flight: InFlight,
    started: Instant,
    method: metrics::Method,
    path: &'static str,
}

impl RequestMetrics {
    /// Starts the clock, and counts the request as in flight.
    pub(crate) fn start(metrics: &Arc<Metrics>, method: &Method, route: &Route) -> Self {
        let method = match *method {
            Method::GET => metrics::Method::Get,
            Method::HEAD => metrics::Method::Head,
            _ => metrics::Method::Other,
        };
        let in_flight = metrics.http.request_started();
        Self { metrics: Arc::clone(metrics), in_flight, started: Instant::now(), method, path: route.template() }
    }

    /// Counts the response to a request for `target`. Its body counts itself while it is sent, and is logged if it fails.
    pub(crate) fn finish(
        self,
        response: Response,
        target: &str,
        requester: &Requester,
        error_log: &Arc<ThrottledErrorLog>,
        active_responses: &Arc<ActiveResponses>,
        entries: LogEntries,
    ) -> hyper::Response<MeteredBody> {
        self.metrics.http.record_response(self.method, self.path, response.status().as_u16(), self.started.elapsed());
        let sent = self.metrics.http.response_bytes(self.path);
        response.map(|body| MeteredBody {
            // A body in memory neither fails nor takes time.
            active: (!matches!(body, Body::Bytes(_))).then(|| {
                let length = body.size_hint().exact();
                let info = ResponseInfo { target: target.into(), client: requester.client(), length };
                (active_responses.start(info), Arc::clone(error_log))
            }),
            body: ReclaimableBody::new(body, requester),
            sent,
            entries,
            metrics: self.metrics,
            has_ended: false,
            _in_flight: self.in_flight,
        })
    }
}

/// Entries of logs that end with a response.
#[derive(Default)]
pub(crate) struct LogEntries {
    /// The entry of the access log, if one is written.
    pub(crate) access: Option<Box<AccessLogEntry>>,
    /// The entry of the audit log, if the response is recorded.
    pub(crate) audit: Option<Box<AuditEntry>>,
}

/// A body that counts its bytes, and whether it was sent completely.
pub(crate) struct MeteredBody {
    body: ReclaimableBody,
    active: Option<(ActiveResponse, Arc<ThrottledErrorLog>)>,
    sent: metrics::ByteCounter,
    entries: LogEntries,
    metrics: Arc<Metrics>,
    has_ended: bool,
    _in_flight: InFlight,
}

impl MeteredBody {
    fn end(&mut self, aborted: Option<AbortedBy>) {
        self.has_ended = true;
        if let Some(by) = aborted {
            self.metrics.http.record_abort(by);
        }
        if let Some(entry) = self.entries.access.take() {
            entry.end(aborted);
        }
        if let Some(entry) = self.entries.audit.take() {
            entry.end();
        }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                self.sent.add(bytes);
                if let Some((active, _)) = &self.active {
                    active.add_sent(bytes);
                }
                if let Some(entry) = &mut self.entries.access {
                    entry.add_sent(bytes);
                }
                if let Some(entry) = &mut self.entries.audit {
                    entry.add_sent(bytes);
                }
            }
            Some(Err(SendError::Reclaimed)) => self.end(Some(AbortedBy::Client)),
            Some(Err(SendError::Body(error))) => {
                self.end(Some(AbortedBy::Server));
                if let Some((active, log)) = &self.active {
                    log.body_aborted(active.target(), &HandlerError::from(error.clone()));
                }
            }
            None => self.end(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for MeteredBody {
    /// Counts the end. hyper does not poll again after the announced last byte, and drops a body before that only if the
    /// client is gone.
    fn drop(&mut self) {
        if !self.has_ended {
            self.end((!self.body.is_end_stream()).then_some(AbortedBy::Client));
        }
    }
}
