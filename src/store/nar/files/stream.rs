//! A NAR out of files as it is sent: what is in memory is taken at once, as from a socket, and where the disk has to be
//! waited for a blocking thread does it.

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
type Turn = Pin<Box<dyn Future<Output = (Box<Reader>, Option<OwnedSemaphorePermit>)> + Send + Sync>>;

/// The bytes of a NAR, or of a part of it. Dropping it ends the reading after the piece that is being read.
pub(crate) struct FileStream {
    work: Work,
    /// Where it is, for messages.
    place: PathBuf,
    layout: Arc<Layout>,
    modified: LastModified,
    /// Where the index is kept, and of which path.
    kept: (Arc<IndexCache>, HashPart),
    /// What each piece that is read takes a permit of.
    reads: Arc<Semaphore>,
    /// What it takes of the memory for all.
    memory: Permit,
}

enum Work {
    /// Nothing under way.
    Idle(Box<Reader>),
    /// Waiting for its turn to read.
    Waiting(Turn),
    Reading(JoinHandle<(Box<Reader>, Piece)>),
    Done,
}

impl FileStream {
    /// What this reads.
    pub(crate) fn new(
        reader: Reader,
        place: PathBuf,
        (layout, modified): (Arc<Layout>, LastModified),
        kept: (Arc<IndexCache>, HashPart),
        reads: Arc<Semaphore>,
        memory: Permit,
    ) -> Self {
        Self { work: Work::Idle(Box::new(reader)), place, layout, modified, kept, reads, memory }
    }

    /// Before anything is read: the bytes are not hashed, so the path must look like that while they are read.
    pub(crate) fn require_stamp(&mut self, seen: PathStamp) {
        if let Work::Idle(reader) = &mut self.work {
            reader.require_stamp(seen);
        }
    }

    /// When the file was modified that was modified last: none is sent that was since.
    pub(crate) const fn modified(&self) -> LastModified {
        self.modified
    }

    /// The index of the whole NAR.
    pub(crate) const fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Its memory.
    pub(crate) const fn permit(&self) -> &Permit {
        &self.memory
    }

    /// Whether the last bytes have been taken.
    pub(crate) const fn is_finished(&self) -> bool {
        matches!(self.work, Work::Done)
    }

    /// What it is when the bytes stay away.
    pub(crate) fn timeout(&self) -> StoreError {
        self.failed(&io::ErrorKind::TimedOut.into())
    }

    /// The next bytes; nothing after the last ones, nor after an error.
    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        let polled = self.poll_piece(context);
        if let Poll::Ready(Err(_)) = &polled {
            // What is not as it was indexed is to be looked at anew.
            let (kept, hash) = &self.kept;
            kept.forget(hash);
        }
        polled
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        loop {
            match std::mem::replace(&mut self.work, Work::Done) {
                Work::Done => return Poll::Ready(Ok(None)),
                Work::Idle(mut reader) => match reader.piece_now()? {
                    Some(piece) => return Poll::Ready(Ok(Some(self.take(reader, piece)))),
                    None => self.work = self.wait(reader),
                },
                Work::Waiting(mut turn) => match turn.as_mut().poll(context) {
                    Poll::Ready((reader, permit)) => self.work = reading(reader, permit),
                    Poll::Pending => {
                        self.work = Work::Waiting(turn);
                        return Poll::Pending;
                    }
                },
                Work::Reading(mut work) => match Pin::new(&mut work).poll(context) {
                    Poll::Ready(done) => {
                        let (reader, piece) = done.map_err(|cause| self.failed(&io::Error::other(cause)))?;
                        return Poll::Ready(Ok(Some(self.take(reader, piece?))));
                    }
                    Poll::Pending => {
                        self.work = Work::Reading(work);
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn take(&mut self, reader: Box<Reader>, piece: Bytes) -> Bytes {
        if reader.remaining() > 0 {
            self.work = Work::Idle(reader);
        }
        piece
    }

    fn wait(&self, reader: Box<Reader>) -> Work {
        if let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() {
            return reading(reader, Some(permit));
        }
        let turn = Arc::clone(&self.reads).acquire_owned();
        Work::Waiting(Box::pin(async move { (reader, turn.await.ok()) }))
    }

    fn failed(&self, cause: &io::Error) -> StoreError {
        StoreError::file(&self.place, cause)
    }
}

impl std::fmt::Debug for FileStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileStream({})", self.place.display())
    }
}

/// There always is a permit: the semaphore is never closed.
fn reading(mut reader: Box<Reader>, permit: Option<OwnedSemaphorePermit>) -> Work {
    Work::Reading(tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let piece = reader.piece();
        (reader, piece)
    }))
}
