//! A body that can be dropped to reclaim its permits for other clients.
//!
//! hyper does not poll the body of a client that stops reading, so the body would hold a connection to nix-daemon, or the
//! memory and files of a NAR, for as long as the client likes. Such a body is shared with the [`Holder`] of its permits, which
//! drops it; when hyper polls again, it ends in an error, never cleanly, and the client resumes by a range.

use std::pin::Pin;
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::fairness::{Holder, Permit, Requester, Usage};
use crate::http::response::body::{Body, BodyError};

/// Error that ends a response early. The client learns only that it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The body failed.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The client read too slowly while others waited for a permit.
    #[error("the client read too slowly while others waited")]
    Reclaimed,
}

/// A body that holds permits, or none.
pub(crate) enum ReclaimableBody {
    /// A body without permits.
    Plain(Body),
    /// A body with permits.
    Shared(Arc<Shared>),
}

pub(crate) struct Shared {
    /// `None` after its permits were reclaimed.
    body: Mutex<Option<Body>>,
    requester: Requester,
}

impl ReclaimableBody {
    /// Makes the permits of `body` reclaimable, depending on how fast `requester` reads.
    pub(crate) fn new(body: Body, requester: &Requester) -> Self {
        let mut has_permits = false;
        body.each_permit(&mut |_| has_permits = true);
        if !has_permits {
            return Self::Plain(body);
        }
        let shared = Arc::new(Shared { body: Mutex::new(Some(body)), requester: requester.clone() });
        let holder: Arc<dyn Holder> = Arc::clone(&shared) as _;
        shared.with(|body| body.each_permit(&mut |permit: &Permit| permit.set_holder(Arc::downgrade(&holder))));
        Self::Shared(shared)
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Body) -> T) -> Option<T> {
        match self {
            Self::Plain(body) => Some(act(body)),
            Self::Shared(shared) => shared.with(act),
        }
    }

    fn inspect<T>(&self, inspect: impl FnOnce(&Body) -> T) -> Option<T> {
        match self {
            Self::Plain(body) => Some(inspect(body)),
            Self::Shared(shared) => shared.with(|body| inspect(body)),
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Body) -> T) -> Option<T> {
        // A body that panicked is not polled again.
        self.body.lock().ok()?.as_mut().map(act)
    }
}

impl Holder for Shared {
    fn usage(&self, now: Instant) -> Usage {
        self.requester.usage(now)
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
        self.inspect(HttpBody::is_end_stream).unwrap_or_default()
    }

    fn size_hint(&self) -> SizeHint {
        self.inspect(HttpBody::size_hint).unwrap_or_default()
    }
}
