//! Body of an object that is read in pieces.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream as _};
use object_store::GetResult;

use super::failure::{BucketError, Operation};
use crate::bucket::object_name::ObjectName;
use crate::metrics::Metrics;

/// Stream of the bytes of an object. It ends in an error, never cleanly, unless all bytes came.
pub(crate) struct ObjectBody {
    object: String,
    size: u64,
    range: Range<u64>,
    at: u64,
    bytes: BoxStream<'static, object_store::Result<Bytes>>,
    metrics: Arc<Metrics>,
}

impl ObjectBody {
    pub(super) fn new(name: &ObjectName, result: GetResult, metrics: &Arc<Metrics>) -> Self {
        let (size, range) = (result.meta.size, result.range.clone());
        let at = range.start;
        Self { object: name.to_string(), size, range, at, bytes: result.into_stream(), metrics: Arc::clone(metrics) }
    }

    /// Returns the size of the whole object, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the part that it has, which is all of it if the server cannot send parts.
    pub(crate) const fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Polls for the next bytes; `None` after the last ones.
    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BucketError>> {
        let error = |object: &String, cause: &str| Err(BucketError::other(Operation::Get, object.clone(), cause));
        Poll::Ready(match ready!(Pin::new(&mut self.bytes).poll_next(context)) {
            Some(Ok(bytes)) if self.at + bytes.len() as u64 > self.range.end => error(&self.object, "too many bytes"),
            Some(Ok(bytes)) => {
                self.at += bytes.len() as u64;
                self.metrics.bucket.record_received(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Some(Err(cause)) => Err(BucketError::of(Operation::Get, self.object.clone(), &cause, None)),
            None if self.at < self.range.end => error(&self.object, "it ends too early"),
            None => Ok(None),
        })
    }

    /// Returns the next bytes; `None` after the last ones. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }
}
