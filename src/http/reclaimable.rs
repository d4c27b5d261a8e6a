//! A body that gives up all that it holds when others need it.
//!
//! A client that stops reading is not served by hyper, so its body is not polled, and keeps what it has: a connection to
//! nix-daemon, the memory and files of a NAR. Such a body is shared with what its permits are taken back by, which drops it;
//! when hyper asks again, it ends in an error, never cleanly, and the client resumes by a range.

use std::pin::Pin;
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::body::{Body, BodyError};
use crate::fairness::{Holder, Permit, Requester, Usage};

/// Why a response ended early. The client learns only that it did.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Its body failed.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Its client read it too slowly while others waited.
    #[error("it was read too slowly while others waited")]
    Reclaimed,
}

/// A body that may have to give up.
pub(super) enum ReclaimableBody {
    /// One that holds nothing scarce.
    Alone(Body),
    Shared(Arc<Shared>),
}

pub(super) struct Shared {
    /// Nothing when it has given up.
    body: Mutex<Option<Body>>,
    reader: Requester,
}

impl ReclaimableBody {
    /// The permits of `body` can be taken back from now on, at the pace of `reader`.
    pub(super) fn new(body: Body, reader: &Requester) -> Self {
        let mut is_scarce = false;
        body.each_permit(&mut |_| is_scarce = true);
        if !is_scarce {
            return Self::Alone(body);
        }
        let shared = Arc::new(Shared { body: Mutex::new(Some(body)), reader: reader.clone() });
        let holder: Arc<dyn Holder> = Arc::clone(&shared) as _;
        shared.with(|body| body.each_permit(&mut |permit: &Permit| permit.set_holder(Arc::downgrade(&holder))));
        Self::Shared(shared)
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Body) -> T) -> Option<T> {
        match self {
            Self::Alone(body) => Some(act(body)),
            Self::Shared(shared) => shared.with(act),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Body) -> T) -> Option<T> {
        match self {
            Self::Alone(body) => Some(look(body)),
            Self::Shared(shared) => shared.with(|body| look(body)),
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Body) -> T) -> Option<T> {
        // A body that has panicked is not polled again.
        self.body.lock().ok()?.as_mut().map(act)
    }
}

impl Holder for Shared {
    fn usage(&self, now: Instant) -> Usage {
        self.reader.usage(now)
    }

    fn reclaim(&self) -> bool {
        let body = match self.body.try_lock() {
            Ok(mut body) => body.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // It is being polled.
            Err(TryLockError::WouldBlock) => return false,
        };
        body.is_some()
    }
}

impl HttpBody for ReclaimableBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let polled = self.with(|body| Pin::new(body).poll_frame(context).map_err(SendError::from));
        polled.unwrap_or(Poll::Ready(Some(Err(SendError::Reclaimed))))
    }

    fn is_end_stream(&self) -> bool {
        self.look(HttpBody::is_end_stream).unwrap_or_default()
    }

    fn size_hint(&self) -> SizeHint {
        self.look(HttpBody::size_hint).unwrap_or_default()
    }
}
