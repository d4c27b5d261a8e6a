//! The body of a NAR, or of a range of one.
//!
//! It knows its length and ends in an error, never cleanly, when the NAR fails: hyper then closes the connection short of
//! the announced length (or without a last chunk), or resets the HTTP/2 stream. Clients see a failure and retry.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use crate::fairness::Permit;
use crate::store::{StoreError, VerifyingNar};

/// Bytes of a NAR from nix-daemon or the files of the store.
pub(crate) struct NarBody {
    nar: VerifyingNar,
    /// Bytes before the range that are still to be skipped.
    skip: u64,
    /// Bytes of the range that are still to be sent.
    remaining: u64,
}

impl NarBody {
    /// Creates a body of `length` bytes from byte `first` of the whole NAR on; `nar` must cover them. What nix-daemon sends
    /// is read from its start. A range that reaches the end is verified as the whole NAR is.
    #[must_use]
    pub(crate) const fn new(nar: VerifyingNar, first: u64, length: u64) -> Self {
        let skip = first - nar.first();
        Self { nar, skip, remaining: length }
    }

    /// Returns the permit that the NAR holds.
    pub(crate) fn permit(&self) -> &Permit {
        self.nar.permit()
    }
}

impl Body for NarBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        while this.remaining > 0 {
            let mut bytes = match ready!(this.nar.poll_chunk(context)) {
                Ok(Some(bytes)) => bytes,
                // A NAR ends only after all of its bytes.
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            let skipped = this.skip.min(bytes.len() as u64);
            this.skip -= skipped;
            bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
            if !bytes.is_empty() {
                bytes.truncate(usize::try_from(this.remaining).unwrap_or(usize::MAX));
                this.remaining -= bytes.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
