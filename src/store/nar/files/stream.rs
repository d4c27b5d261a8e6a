//! Asynchronous reads of a NAR from files: from the page cache at once, else on a blocking thread.

use std::future::Future as _;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Layout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::fairness::Permit;
use crate::store::error::StoreError;
use crate::store::nar::files::index_cache::IndexCache;
use crate::store::nar::files::open::LastModified;
use crate::store::nar::files::reader::Reader;
use crate::store::path_info::path_stamp::PathStamp;

type Piece = Result<Bytes, StoreError>;
type PermitFuture = Pin<Box<dyn Future<Output = (Box<Reader>, Option<OwnedSemaphorePermit>)> + Send + Sync>>;

/// Stream of the bytes of a NAR, or of a range of it. Dropping it stops the reading after the current piece.
pub(crate) struct FileStream {
    work: Work,
    /// Path of the store path's files, for error messages.
    file_path: PathBuf,
    layout: Arc<Layout>,
    modified: LastModified,
    /// Cache of the index, and the key of its entry.
    cached: (Arc<IndexCache>, HashPart),
    /// Limits concurrent reads on blocking threads.
    reads: Arc<Semaphore>,
    /// Share of the memory limit.
    memory: Permit,
}

enum Work {
    /// Idle: no read is running.
    Idle(Box<Reader>),
    /// Waiting for a permit to read.
    Waiting(PermitFuture),
    Reading(JoinHandle<(Box<Reader>, Piece)>),
    Done,
}

impl FileStream {
    /// Creates a stream of the reader's bytes.
    pub(crate) fn new(
        reader: Reader,
        file_path: PathBuf,
        (layout, modified): (Arc<Layout>, LastModified),
        cached: (Arc<IndexCache>, HashPart),
        reads: Arc<Semaphore>,
        memory: Permit,
    ) -> Self {
        Self { work: Work::Idle(Box::new(reader)), file_path, layout, modified, cached, reads, memory }
    }

    /// Makes reads fail if the path's stamp is another one, for bytes that are not hashed. To be called before reading.
    pub(crate) fn require_stamp(&mut self, stamp: PathStamp) {
        if let Work::Idle(reader) = &mut self.work {
            reader.require_stamp(stamp);
        }
    }

    /// Returns the latest modification time of the files when they were indexed; reading a file modified later fails.
    pub(crate) const fn modified(&self) -> LastModified {
        self.modified
    }

    /// Returns the index of the whole NAR.
    pub(crate) const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns the permit for its memory.
    pub(crate) const fn permit(&self) -> &Permit {
        &self.memory
    }

    /// Returns whether the last bytes have been returned, or reading failed.
    pub(crate) const fn is_finished(&self) -> bool {
        matches!(self.work, Work::Done)
    }

    /// Returns the error for reads that stall.
    pub(crate) fn timeout(&self) -> StoreError {
        self.failed(&io::ErrorKind::TimedOut.into())
    }

    /// Polls for the next bytes; `None` at the end, and after an error.
    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        let polled = self.poll_piece(context);
        if let Poll::Ready(Err(_)) = &polled {
            // The index may be outdated.
            let (cached, hash) = &self.cached;
            cached.forget(hash);
        }
        polled
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        loop {
            match std::mem::replace(&mut self.work, Work::Done) {
                Work::Done => return Poll::Ready(Ok(None)),
                Work::Idle(mut reader) => match reader.piece_now()? {
                    Some(piece) => return Poll::Ready(Ok(Some(self.idle_after(reader, piece)))),
                    None => self.work = self.wait(reader),
                },
                Work::Waiting(mut acquire) => match acquire.as_mut().poll(context) {
                    Poll::Ready((reader, permit)) => self.work = reading(reader, permit),
                    Poll::Pending => {
                        self.work = Work::Waiting(acquire);
                        return Poll::Pending;
                    }
                },
                Work::Reading(mut work) => match Pin::new(&mut work).poll(context) {
                    Poll::Ready(done) => {
                        let (reader, piece) = done.map_err(|cause| self.failed(&io::Error::other(cause)))?;
                        return Poll::Ready(Ok(Some(self.idle_after(reader, piece?))));
                    }
                    Poll::Pending => {
                        self.work = Work::Reading(work);
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn idle_after(&mut self, reader: Box<Reader>, piece: Bytes) -> Bytes {
        if reader.remaining() > 0 {
            self.work = Work::Idle(reader);
        }
        piece
    }

    fn wait(&self, reader: Box<Reader>) -> Work {
        if let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() {
            return reading(reader, Some(permit));
        }
        let acquire = Arc::clone(&self.reads).acquire_owned();
        Work::Waiting(Box::pin(async move { (reader, acquire.await.ok()) }))
    }

    fn failed(&self, cause: &io::Error) -> StoreError {
        StoreError::file(&self.file_path, cause)
    }
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileStream({})", self.file_path.display())
    }
}

/// Reads a piece on a blocking thread. `permit` is `None` only if the semaphore were closed, which it never is.
fn reading(mut reader: Box<Reader>, permit: Option<OwnedSemaphorePermit>) -> Work {
    Work::Reading(tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let piece = reader.piece();
        (reader, piece)
    }))
}
