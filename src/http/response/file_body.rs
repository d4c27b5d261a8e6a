//! Bodies that are read from files, as they are or decoded.
//!
//! Reads one piece at a time on a blocking thread, when the client is ready for it. A file that ends before its announced
//! length, or a truncated encoded one, ends in an error, never cleanly.

use std::future::Future;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Semaphore;

use crate::fairness::Permit;
use crate::store::StoreError;

/// Bytes per read.
const PIECE: u64 = 128 * 1024;

type Source = Box<dyn Read + Send>;
type Work = Pin<Box<dyn Future<Output = io::Result<(Source, Vec<u8>)>> + Send>>;

/// Body with the bytes of a file.
pub(crate) struct FileBody {
    stage: Stage,
    path: PathBuf,
    /// Bytes that are still to be sent, if known.
    remaining: Option<u64>,
    reads: Arc<Semaphore>,
    /// Held until the body is dropped.
    permits: Vec<Permit>,
}

enum Stage {
    Idle(Source),
    Busy(Work),
    Done,
}

impl FileBody {
    /// Creates a body of the next `length` bytes of `source`, or of all of them: the file at `path`, or a decoder of it. Each
    /// read takes a permit of `reads`; `permits` are held until the body is dropped.
    pub(crate) fn new(
        source: impl Read + Send + 'static,
        path: PathBuf,
        length: Option<u64>,
        reads: Arc<Semaphore>,
        permits: Vec<Permit>,
    ) -> Self {
        Self { stage: Stage::Idle(Box::new(source)), path, remaining: length, reads, permits }
    }

    /// Returns the permits that the body holds.
    #[must_use]
    pub(crate) fn permits(&self) -> &[Permit] {
        &self.permits
    }

    fn read(&self, source: Source) -> Work {
        let reads = Arc::clone(&self.reads);
        let length = self.remaining.map_or(PIECE, |remaining| remaining.min(PIECE));
        Box::pin(async move {
            let permit = reads.acquire_owned().await.map_err(io::Error::other)?;
            let read = move || {
                let _permit = permit;
                // Capacity for all of it: a decoder takes three times as long for small reads.
                let mut piece = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
                let mut limited = source.take(length);
                limited.read_to_end(&mut piece)?;
                Ok((limited.into_inner(), piece))
            };
            tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
        })
    }

    fn failed(&mut self, cause: &io::Error) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        self.stage = Stage::Done;
        Poll::Ready(Some(Err(StoreError::file(&self.path, cause))))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.stage, Stage::Done) {
                Stage::Done => return Poll::Ready(None),
                Stage::Idle(_) if this.remaining == Some(0) => return Poll::Ready(None),
                Stage::Idle(source) => this.stage = Stage::Busy(this.read(source)),
                Stage::Busy(mut work) => {
                    let result = work.as_mut().poll(context);
                    if result.is_pending() {
                        this.stage = Stage::Busy(work);
                    }
                    return match (ready!(result), &mut this.remaining) {
                        (Err(cause), _) => this.failed(&cause),
                        (Ok((_, piece)), None) if piece.is_empty() => Poll::Ready(None),
                        (Ok((_, piece)), Some(_)) if piece.is_empty() => {
                            this.failed(&io::ErrorKind::UnexpectedEof.into())
                        }
                        (Ok((source, piece)), remaining) => {
                            if let Some(remaining) = remaining {
                                *remaining -= piece.len() as u64;
                            }
                            this.stage = Stage::Idle(source);
                            Poll::Ready(Some(Ok(Frame::data(piece.into()))))
                        }
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Done) || self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
