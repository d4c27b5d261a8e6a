//! Bodies that are read from files, as they lie there or decoded.
//!
//! The work is done on the blocking threads, one piece at a time, and only when the client wants the piece. A file that
//! cannot be read to its announced end, and an encoded one that is cut short, end in an error, never cleanly.

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

/// Bytes that are read at once.
const PIECE: u64 = 128 * 1024;

type Source = Box<dyn Read + Send>;
type Work = Pin<Box<dyn Future<Output = io::Result<(Source, Vec<u8>)>> + Send>>;

/// The bytes of a file.
pub struct FileBody {
    stage: Stage,
    path: PathBuf,
    /// Bytes to come, unless that is unknown.
    remaining: Option<u64>,
    reads: Arc<Semaphore>,
    /// Kept until the body is gone.
    slots: Vec<Permit>,
}

enum Stage {
    Idle(Source),
    Busy(Work),
    Done,
}

impl FileBody {
    /// The next `length` bytes of `source`, or all that it has: the file at `path`, or what a decoder makes of that. Each
    /// piece takes a permit of `reads`; `slots` are kept until the body is gone.
    pub fn new(
        source: impl Read + Send + 'static,
        path: PathBuf,
        length: Option<u64>,
        reads: Arc<Semaphore>,
        slots: Vec<Permit>,
    ) -> Self {
        Self { stage: Stage::Idle(Box::new(source)), path, remaining: length, reads, slots }
    }

    /// What is kept until it is gone.
    #[must_use]
    pub fn permits(&self) -> &[Permit] {
        &self.slots
    }

    fn read(&self, source: Source) -> Work {
        let reads = Arc::clone(&self.reads);
        let wanted = self.remaining.map_or(PIECE, |remaining| remaining.min(PIECE));
        Box::pin(async move {
            let permit = reads.acquire_owned().await.map_err(io::Error::other)?;
            let read = move || {
                let _permit = permit;
                // Room for all of it: a decoder asked for little at a time takes three times as long.
                let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
                let mut limited = source.take(wanted);
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
