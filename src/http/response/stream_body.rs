//! Bodies that come from elsewhere while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::fairness::Permit;
use crate::nar_cache::{FileSource, FillError};

/// Body of a known length, whose source ends in an error or after all bytes.
pub(crate) struct StreamBody {
    source: Box<dyn FileSource>,
    /// Bytes that are still to be sent.
    remaining: u64,
    /// Held until the body is dropped.
    permits: Vec<Permit>,
}

impl StreamBody {
    /// Creates a body of all bytes of a source, which are so many.
    pub(crate) fn new(source: Box<dyn FileSource>, length: u64, permits: Vec<Permit>) -> Self {
        Self { source, remaining: length, permits }
    }

    /// Returns the permits that the body holds.
    pub(crate) fn permits(&self) -> &[Permit] {
        &self.permits
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = FillError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, FillError>>> {
        let this = self.get_mut();
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(this.source.poll_piece(context)) {
            Ok(Some(piece)) if piece.len() as u64 <= this.remaining => {
                this.remaining -= piece.len() as u64;
                Ok(Frame::data(piece))
            }
            Ok(_) => Err(FillError::Fetch("it has another length than was announced".to_owned())),
            Err(cause) => Err(FillError::fetch(&cause)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
