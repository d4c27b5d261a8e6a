//! Body of a request, which records its progress: an upload is not idle, and a slow one is reclaimed as a slow download is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::read_progress::ReadProgress;

/// Body of a request. hyper asks an HTTP/1.1 client for it (`100 Continue`) when it is first polled.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    /// `None` for requests whose body is not read.
    progress: Option<Arc<ReadProgress>>,
}

impl RequestBody {
    pub(super) const fn new(body: Incoming, progress: Option<Arc<ReadProgress>>) -> Self {
        Self { body, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(progress) = &self.progress {
            match &polled {
                Poll::Pending => progress.upload_awaited(true),
                Poll::Ready(Some(Ok(frame))) => progress.received(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(Some(Err(_)) | None) => progress.upload_awaited(false),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            progress.upload_awaited(false);
        }
    }
}
