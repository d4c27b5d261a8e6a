//! Bodies of requests to the object store and of its responses.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Sleep, sleep, sleep_until};

use super::upload_rate::UploadRate;

/// Bytes that are sent at once if there is a rate.
const PIECE: usize = 64 << 10;
/// Longest pause of a server within a response.
const STALL: Duration = Duration::from_secs(30);

/// Sender of requests on a connection.
pub(super) type Sender = SendRequest<UploadBody>;

/// Body of a request, sent at the rate of uploads.
pub(super) struct UploadBody {
    body: HttpRequestBody,
    rate: Option<Arc<UploadRate>>,
    /// Rest of the last frame.
    rest: Bytes,
    wait: Option<Pin<Box<Sleep>>>,
}

impl UploadBody {
    pub(super) fn new(body: HttpRequestBody, rate: Option<Arc<UploadRate>>) -> Self {
        Self { body, rate, rest: Bytes::new(), wait: None }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let Some(rate) = &this.rate else { return Pin::new(&mut this.body).poll_frame(cx) };
        loop {
            if let Some(wait) = &mut this.wait {
                ready!(wait.as_mut().poll(cx));
                this.wait = None;
                let piece = this.rest.split_to(this.rest.len().min(PIECE));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.rest.is_empty() {
                match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                    end => return Poll::Ready(end),
                }
            } else {
                let begin = rate.reserve(this.rest.len().min(PIECE), Instant::now());
                this.wait = Some(Box::pin(sleep_until(begin.into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.wait.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.size_hint();
        body.exact().map_or(body, |exact| SizeHint::with_exact(exact + self.rest.len() as u64))
    }
}

type GiveBack = Box<dyn FnOnce(Sender) + Send + Sync>;

/// Body of a response, which gives its connection back at its end. Dropped before that, it closes it.
pub(super) struct PooledBody {
    body: Incoming,
    connection: Option<(Sender, GiveBack)>,
    /// End of the time that the server has. It begins when somebody waits for it: a client may be slow to take what has come.
    stall: Pin<Box<Sleep>>,
    is_awaited: bool,
}

impl PooledBody {
    pub(super) fn new(body: Incoming, sender: Sender, give_back: GiveBack) -> Self {
        let mut pooled =
            Self { body, connection: Some((sender, give_back)), stall: Box::pin(sleep(STALL)), is_awaited: false };
        if pooled.body.is_end_stream() {
            pooled.end();
        }
        pooled
    }

    fn end(&mut self) {
        if let Some((sender, give_back)) = self.connection.take() {
            give_back(sender);
        }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            if !std::mem::replace(&mut this.is_awaited, true) {
                this.stall.as_mut().reset(tokio::time::Instant::now() + STALL);
            }
            ready!(this.stall.as_mut().poll(cx));
            this.connection = None;
            let error = io::Error::new(io::ErrorKind::TimedOut, "the server has paused within a response");
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, error))));
        };
        this.is_awaited = false;
        match frame {
            None => this.end(),
            Some(Err(_)) => this.connection = None,
            Some(Ok(_)) if this.body.is_end_stream() => this.end(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
