//! The compressed form of a NAR as it is sent: from the disk, or from a fill that is under way.
//!
//! A fill that has ended well is on disk, and whoever reads along goes on there. A disk that fails breaks the body: its
//! client asks for the rest, which is made anew.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::block::Block;
use super::disk_threads::DiskFile;
use super::entry::{BLOCK, Entry, read_cached};
use super::fill::Progress;
use super::index::Key;
use super::{FillError, NarCache};
use crate::store::{Step, StoreError, ValidPath};

/// How long a response waits for its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);
/// A NAR of up to this size is compressed in that time, and then its length can be said.
const SMALL: u64 = 32 << 20;
/// How long a body waits for one read. Its client may ask again.
const READING: Duration = Duration::from_secs(30);
/// How often whoever waits for a fill looks whether the disk is stuck.
const LOOK: Duration = Duration::from_secs(2);

/// Where the bytes come from.
pub(super) enum Source {
    Disk(Arc<Entry>),
    Fill(watch::Receiver<Progress>),
}

/// The compressed form of a NAR.
pub struct CompressedNar {
    pub(super) cache: Arc<NarCache>,
    pub(super) key: Key,
    /// Nothing if the path is not valid any more.
    pub(super) valid: Option<Arc<ValidPath>>,
    pub(super) source: Source,
}

impl CompressedNar {
    /// Waits until there is something to send, but not for long, or is told that there will not be: later that can be
    /// said only by breaking the body.
    pub async fn begin(&mut self) -> Result<(), FillError> {
        let Source::Fill(progress) = &mut self.source else { return Ok(()) };
        let is_small = self.valid.as_ref().is_some_and(|valid| valid.info.nar_size <= SMALL);
        let begun = |progress: &Progress| progress.end.is_some() || (!is_small && progress.written > 0);
        match tokio::time::timeout(LONGEST_BEGINNING, progress.wait_for(begun)).await {
            Ok(Ok(progress)) => progress.end.clone().map_or(Ok(()), |end| end.map(drop)),
            Ok(Err(_)) => Err(FillError::Gone),
            // One that takes its time has not ended.
            Err(_) => Ok(()),
        }
    }

    /// How many bytes there are, if that is known already.
    #[must_use]
    pub fn known_length(&self) -> Option<u64> {
        match &self.source {
            Source::Disk(entry) => Some(entry.info().size),
            Source::Fill(progress) => match &progress.borrow().end {
                Some(Ok(entry)) => Some(entry.info().size),
                _ => None,
            },
        }
    }

    /// How many bytes there are. For a NAR that is being compressed that takes until its end.
    pub async fn length(&mut self) -> Result<u64, FillError> {
        let progress = match &mut self.source {
            Source::Disk(entry) => return Ok(entry.info().size),
            Source::Fill(progress) => progress,
        };
        let step = Step::Compressing;
        let ended = progress.wait_for(|progress| progress.end.is_some());
        let ended = tokio::time::timeout(step.deadline(), ended).await.map_err(|_| StoreError::Late(step))?;
        let end = ended.map(|progress| progress.end.clone()).ok().flatten();
        end.unwrap_or(Err(FillError::Gone)).map(|entry| entry.info().size)
    }

    /// The bytes from `first` on: so many, or all.
    #[must_use]
    pub fn bytes(self, first: u64, length: Option<u64>) -> CompressedBytes {
        let end = length.map(|length| first + length);
        CompressedBytes { nar: self, at: first, end, work: None }
    }
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    /// From the disk.
    Read(io::Result<Bytes>),
    /// A fill has got on.
    Grown,
    /// A file that cannot be read has been removed, if it is wrong.
    Failed(FillError),
}

/// Bytes of the compressed form of a NAR. It ends in an error, never cleanly, when they cannot be had.
pub struct CompressedBytes {
    nar: CompressedNar,
    at: u64,
    /// Where to stop; nothing for the end, wherever that is.
    end: Option<u64>,
    work: Option<Work>,
}

impl CompressedBytes {
    /// Bytes to come, if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end - self.at)
    }

    /// The next bytes; nothing after the last ones.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, FillError>> {
        loop {
            if self.remaining() == Some(0) {
                return Poll::Ready(Ok(None));
            }
            let next = match &mut self.work {
                None => self.next()?,
                Some(work) => {
                    let done = ready!(work.as_mut().poll(context));
                    self.work = None;
                    match done {
                        Done::Grown => continue,
                        Done::Failed(error) => return Poll::Ready(Err(error)),
                        Done::Read(read) => Next::Read(read),
                    }
                }
            };
            match next {
                Next::End => return Poll::Ready(Ok(None)),
                Next::Work(work) => self.work = Some(work),
                Next::Read(Ok(mut bytes)) => {
                    if let Some(remaining) = self.remaining() {
                        bytes.truncate(usize::try_from(remaining).unwrap_or(usize::MAX));
                    }
                    self.at += bytes.len() as u64;
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Next::Read(Err(cause)) => {
                    let error = FillError::disk(&cause);
                    if let Source::Fill(_) = self.nar.source {
                        return Poll::Ready(Err(error));
                    }
                    // First: the client comes again at once, for what is to be made anew.
                    let (disk, key) = (Arc::clone(&self.nar.cache.disk), self.nar.key.clone());
                    self.work = Some(Box::pin(async move {
                        let threads = disk.threads().clone();
                        let _ = threads.run(READING, move || disk.distrust(&key, &cause)).await;
                        Done::Failed(error)
                    }));
                }
            }
        }
    }

    fn next(&mut self) -> Result<Next, FillError> {
        let at = self.at;
        let filling = match &mut self.nar.source {
            Source::Disk(entry) if at >= entry.info().size => return Ok(Next::End),
            Source::Disk(entry) => {
                let entry = Arc::clone(entry);
                return Ok(self.read_entry(entry));
            }
            Source::Fill(filling) => filling,
        };
        let progress = filling.borrow_and_update().clone();
        match (progress.end, progress.file) {
            (Some(end), _) => {
                self.nar.source = Source::Disk(end?);
                self.next()
            }
            (None, Some(file)) if at < progress.written => {
                let length = usize::try_from((progress.written - at).min(BLOCK)).unwrap_or_default();
                let now = file.get().ok().and_then(|file| read_cached(file, at, length));
                Ok(now.map_or_else(
                    || self.read_growing(file, at, length),
                    |block| Next::Read(Ok(Bytes::from_owner(block))),
                ))
            }
            (None, _) => {
                let (mut filling, cache) = (filling.clone(), Arc::clone(&self.nar.cache));
                Ok(Next::Work(Box::pin(async move {
                    loop {
                        match tokio::time::timeout(LOOK, filling.changed()).await {
                            Ok(Ok(())) => return Done::Grown,
                            // A filler that is gone without an end has panicked.
                            Ok(Err(gone)) => return Done::Read(Err(io::Error::other(gone))),
                            Err(_) if cache.disk.threads().are_stuck() => {
                                return Done::Read(Err(io::ErrorKind::TimedOut.into()));
                            }
                            Err(_) => {}
                        }
                    }
                })))
            }
        }
    }

    fn read_entry(&self, entry: Arc<Entry>) -> Next {
        let (disk, key, at) = (&self.nar.cache.disk, &self.nar.key, self.at);
        let now = disk.file_now(key).map_or(Ok(None), |file| entry.read_now(file.get()?, at));
        let (disk, key) = (Arc::clone(disk), key.clone());
        match now.transpose() {
            Some(read) => Next::Read(read),
            None => self.reading(move || disk.read(&key, &entry, at)),
        }
    }

    fn read_growing(&self, file: Arc<DiskFile>, at: u64, length: usize) -> Next {
        self.reading(move || {
            let mut block = Block::new(length);
            file.get()?.read_exact_at(block.as_mut(), at)?;
            Ok(Bytes::from_owner(block))
        })
    }

    fn reading(&self, read: impl FnOnce() -> io::Result<Bytes> + Send + 'static) -> Next {
        let threads = self.nar.cache.disk.threads().clone();
        Next::Work(Box::pin(async move { Done::Read(threads.run(READING, read).await.and_then(|read| read)) }))
    }
}

enum Next {
    Read(io::Result<Bytes>),
    End,
    Work(Work),
}
