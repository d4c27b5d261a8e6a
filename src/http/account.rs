//! What a request comes to: its place in the metrics, from its head to the end of its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Method, Response};

use super::body::Body;
use super::error::HandlerError;
use super::logged::Entry;
use super::reclaimable::{ReclaimableBody, SendError};
use super::response::Reply;
use super::route::Route;
use super::sending::{Sending, Sent, What};
use super::trouble::TroubleLog;
use crate::fairness::Requester;
use crate::metrics::{self, AbortedBy, InFlight, Metrics};

/// A request that has not been answered yet.
pub(super) struct Account {
    metrics: Arc<Metrics>,
    in_flight: InFlight,
    began: Instant,
    method: metrics::Method,
    path: &'static str,
}

impl Account {
    pub(super) fn open(metrics: &Arc<Metrics>, method: &Method, route: &Route) -> Self {
        let method = match *method {
            Method::GET => metrics::Method::Get,
            Method::HEAD => metrics::Method::Head,
            _ => metrics::Method::Other,
        };
        let in_flight = metrics.request();
        Self { metrics: Arc::clone(metrics), in_flight, began: Instant::now(), method, path: route.template() }
    }

    /// Enters the response to a request for `target`, whose body enters itself as it is sent, and goes to the log when it
    /// fails.
    pub(super) fn answered(
        self,
        reply: Reply,
        target: &str,
        reader: &Requester,
        troubles: &Arc<TroubleLog>,
        sending: &Arc<Sending>,
        entry: Option<Box<Entry>>,
    ) -> Response<CountedBody> {
        self.metrics.answered(self.method, self.path, reply.status().as_u16(), self.began.elapsed());
        let sent = self.metrics.sent(self.path);
        reply.map(|body| CountedBody {
            // Nothing fails that is in memory, nor does it take time.
            on_its_way: (!matches!(body, Body::Bytes(_))).then(|| {
                let length = body.size_hint().exact();
                (sending.begin(What { target: target.into(), client: reader.client(), length }), Arc::clone(troubles))
            }),
            body: ReclaimableBody::new(body, reader),
            sent,
            entry,
            metrics: self.metrics,
            has_ended: false,
            _in_flight: self.in_flight,
        })
    }
}

/// A body that counts its bytes, and what becomes of it.
pub struct CountedBody {
    body: ReclaimableBody,
    on_its_way: Option<(Sent, Arc<TroubleLog>)>,
    sent: metrics::Bytes,
    /// The entry of the access log, where one is written.
    entry: Option<Box<Entry>>,
    metrics: Arc<Metrics>,
    has_ended: bool,
    _in_flight: InFlight,
}

impl CountedBody {
    fn end(&mut self, aborted: Option<AbortedBy>) {
        self.has_ended = true;
        if let Some(by) = aborted {
            self.metrics.aborted(by);
        }
        if let Some(entry) = self.entry.take() {
            entry.end(aborted);
        }
    }
}

impl HttpBody for CountedBody {
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
                if let Some((sent, _)) = &self.on_its_way {
                    sent.add(bytes);
                }
                if let Some(entry) = &mut self.entry {
                    entry.sent(bytes);
                }
            }
            Some(Err(SendError::Reclaimed)) => self.end(Some(AbortedBy::Client)),
            Some(Err(SendError::Body(error))) => {
                self.end(Some(AbortedBy::Server));
                if let Some((sent, log)) = &self.on_its_way {
                    log.aborted(sent.target(), &HandlerError::from(error.clone()));
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

impl Drop for CountedBody {
    /// hyper does not ask again after the last byte that was announced, nor drops a body before that unless its client
    /// is gone.
    fn drop(&mut self) {
        if !self.has_ended {
            self.end((!self.body.is_end_stream()).then_some(AbortedBy::Client));
        }
    }
}
