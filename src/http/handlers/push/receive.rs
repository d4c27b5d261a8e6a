//! Receives the body of an upload, at the client's pace: piece by piece, as long as it comes fast enough.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::refusal::Refusal;
use crate::fairness::{Holder, Permit, Requester, Usage};
use crate::http::request::upload_body::UploadBody;

/// Time in which some bytes have to arrive.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes that have to arrive in that time: one now and then does not keep an upload.
const MIN_BYTES: usize = 30 << 10;
/// Bytes of a refused upload that are read, more than what curl sends without having been asked (1 MiB).
const DRAINED: u64 = 2 << 20;
/// Time for that.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The body of an upload.
pub(super) struct Receiver {
    body: UploadBody,
    pace: Arc<Pace>,
    busy: Arc<Busy>,
    received: u64,
    has_ended: bool,
}

impl Receiver {
    pub(super) fn new(body: UploadBody, requester: &Requester) -> Self {
        let pace = Arc::new(Pace { requester: requester.clone(), reclaimed: Notify::new() });
        let has_ended = body.is_end_stream();
        Self { body, pace, busy: Arc::new(Busy), received: 0, has_ended }
    }

    /// Lets `permit` be reclaimed if the client is slow while others wait.
    pub(super) fn hold(&self, permit: &Permit) {
        let holder: Arc<dyn Holder> = Arc::clone(&self.pace) as _;
        permit.set_holder(Arc::downgrade(&holder));
    }

    /// Keeps `permit` from being reclaimed from now on.
    pub(super) fn release(&self, permit: &Permit) {
        let busy: Arc<dyn Holder> = Arc::clone(&self.busy) as _;
        permit.set_holder(Arc::downgrade(&busy));
    }

    /// Returns the length of the body in bytes, if the client has announced it.
    pub(super) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Returns the bytes that have arrived.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Returns whether the body was read to its end, so that the next request can follow.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Appends to `buffer` until it has `most` bytes, or slightly more, or the body ends. It is empty only at the end.
    pub(super) async fn fill(&mut self, mut buffer: Vec<u8>, most: usize) -> Result<Vec<u8>, Refusal> {
        let (mut since, mut at) = (Instant::now(), buffer.len());
        while buffer.len() < most && !self.has_ended {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = self.pace.reclaimed.notified() => return Err(Refusal::reclaimed()),
                () = sleep_until(since + IDLE) => {
                    if buffer.len() - at < MIN_BYTES {
                        return Err(Refusal::idle());
                    }
                    (since, at) = (Instant::now(), buffer.len());
                    continue;
                }
            };
            match frame {
                None => self.has_ended = true,
                Some(Err(cause)) => return Err(Refusal::broken_off(&cause)),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.received += bytes.len() as u64;
                        buffer.extend_from_slice(bytes);
                    }
                }
            }
        }
        Ok(buffer)
    }

    /// Reads what the client sends without having been asked, up to a limit, so that it reads the response.
    pub(super) async fn drain(&mut self) {
        let mut left = DRAINED;
        let drain = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |bytes| bytes.len() as u64));
                if left == 0 {
                    return false;
                }
            }
            true
        };
        self.has_ended = timeout(DRAIN_TIME, drain).await.unwrap_or(false) && Pin::new(&self.body).is_end_stream();
    }
}

/// Speed of an upload, by which its permit is reclaimed.
struct Pace {
    requester: Requester,
    reclaimed: Notify,
}

impl Holder for Pace {
    fn usage(&self, now: Instant) -> Usage {
        self.requester.usage(now)
    }

    fn reclaim(&self) -> bool {
        self.reclaimed.notify_one();
        true
    }
}

/// Holder of a permit with which the server works.
struct Busy;

impl Holder for Busy {
    fn usage(&self, _: Instant) -> Usage {
        Usage::Busy
    }

    fn reclaim(&self) -> bool {
        false
    }
}
