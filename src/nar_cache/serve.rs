//! The compressed form of a NAR as it is sent, from disk or from a fill that runs.
//!
//! A fill that succeeds ends up on disk, and whoever reads along continues there. A failing disk breaks the body: the
//! client requests the rest, which is compressed again.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::disk::buffer_pool::Buffer;
use super::disk::disk_cache::DiskCache;
use super::disk::entry::{BLOCK, Entry, read_cached};
use super::disk::file::DiskFile;
use super::disk::key::EntryKey;
use super::error::FillError;
use super::fill::progress::Progress;
use crate::store::{Deadline, StoreError};

/// Limit on the wait for the first bytes of a body before its head is sent: clients expect a head within a second.
pub const HEAD_DELAY: Duration = Duration::from_millis(500);
/// Size up to which a NAR is usually compressed within [`HEAD_DELAY`], so that waiting for its end gives its length.
const SMALL_NAR: u64 = 32 << 20;
/// Limit on one read. The client may resume.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which whoever waits for a fill checks whether the disk is stalled.
const STALL_CHECK: Duration = Duration::from_secs(2);

/// Source of the bytes.
pub(crate) enum Source {
    Disk(Arc<Entry>),
    Fill(watch::Receiver<Progress>),
}

/// The compressed form of a NAR, of which nothing has been read.
pub struct CompressedNar {
    pub(super) disk: Arc<DiskCache>,
    pub(super) key: EntryKey,
    /// Size of the NAR itself, in bytes.
    pub(super) nar_size: u64,
    /// Size of the file in bytes, if it is known before the fill ends.
    pub(super) file_size: Option<u64>,
    pub(super) source: Source,
}

impl CompressedNar {
    /// Returns its length in bytes if that is known already.
    #[must_use]
    pub fn known_length(&self) -> Option<u64> {
        match &self.source {
            Source::Disk(entry) => Some(entry.info().size),
            Source::Fill(progress) => match &progress.borrow().end {
                Some(Ok(entry)) => Some(entry.info().size),
                _ => self.file_size,
            },
        }
    }

    /// Returns its length in bytes. Waits for the end of a fill.
    pub async fn length(&mut self) -> Result<u64, FillError> {
        let progress = match &mut self.source {
            Source::Disk(entry) => return Ok(entry.info().size),
            Source::Fill(_) if self.file_size.is_some() => return Ok(self.file_size.unwrap_or_default()),
            Source::Fill(progress) => progress,
        };
        let step = Deadline::Compressing;
        let ended = progress.wait_for(|progress| progress.end.is_some());
        let ended = tokio::time::timeout(step.duration(), ended).await.map_err(|_| StoreError::Timeout(step))?;
        let end = ended.map(|progress| progress.end.clone()).ok().flatten();
        end.unwrap_or(Err(FillError::Abandoned)).map(|entry| entry.info().size)
    }

    /// Opens these bytes, or all of them.
    ///
    /// Waits until a fill has written something, for up to [`HEAD_DELAY`], so that a fill that fails early is an error here
    /// and not a broken body. [`CompressedBody::remaining`] then tells the length if it is known.
    pub async fn open(mut self, range: Option<Range<u64>>) -> Result<CompressedBody, FillError> {
        self.wait_for_first_bytes().await?;
        let (first, end) = match range {
            Some(range) => (range.start, Some(range.end)),
            None => (0, self.known_length()),
        };
        Ok(CompressedBody { nar: self, at: first, end, pending: None })
    }

    async fn wait_for_first_bytes(&mut self) -> Result<(), FillError> {
        let Source::Fill(progress) = &mut self.source else { return Ok(()) };
        let is_small = self.nar_size <= SMALL_NAR;
        let has_bytes = |progress: &Progress| progress.end.is_some() || (!is_small && progress.written > 0);
        match tokio::time::timeout(HEAD_DELAY, progress.wait_for(has_bytes)).await {
            Ok(Ok(progress)) => progress.end.clone().map_or(Ok(()), |end| end.map(drop)),
            Ok(Err(_)) => Err(FillError::Abandoned),
            // It is still running.
            Err(_) => Ok(()),
        }
    }
}

type PendingRead = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The result of a [`PendingRead`].
enum Event {
    /// A read from disk has ended.
    Read(io::Result<Bytes>),
    /// A fill has written more, or ended.
    Progress,
    /// A read has failed, and its file was removed if it is corrupt.
    Failed(FillError),
}

/// A stream of the bytes of a compressed NAR. It ends in an error, never cleanly, when they cannot be read.
pub struct CompressedBody {
    nar: CompressedNar,
    at: u64,
    /// End of the range; `None` for the end of the file.
    end: Option<u64>,
    pending: Option<PendingRead>,
}

impl CompressedBody {
    /// Returns the number of bytes to come if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end - self.at)
    }

    /// Polls for the next bytes; `None` after the last ones.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, FillError>> {
        loop {
            if self.remaining() == Some(0) {
                return Poll::Ready(Ok(None));
            }
            let next = match &mut self.pending {
                None => self.next()?,
                Some(pending) => {
                    let event = ready!(pending.as_mut().poll(context));
                    self.pending = None;
                    match event {
                        Event::Progress => continue,
                        Event::Failed(error) => return Poll::Ready(Err(error)),
                        Event::Read(read) => Next::Read(read),
                    }
                }
            };
            match next {
                Next::End => return Poll::Ready(Ok(None)),
                Next::Wait(pending) => self.pending = Some(pending),
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
                    // Before the body breaks: the client resumes at once, and must not find the corrupt file again.
                    let (disk, key) = (Arc::clone(&self.nar.disk), self.nar.key.clone());
                    self.pending = Some(Box::pin(async move {
                        let threads = disk.threads().clone();
                        let _ = threads.run(READ_TIMEOUT, move || disk.evict_corrupt(&key, &cause)).await;
                        Event::Failed(error)
                    }));
                }
            }
        }
    }

    fn next(&mut self) -> Result<Next, FillError> {
        let at = self.at;
        let updates = match &mut self.nar.source {
            Source::Disk(entry) if at >= entry.info().size => return Ok(Next::End),
            Source::Disk(entry) => {
                let entry = Arc::clone(entry);
                return Ok(self.read_entry(entry));
            }
            Source::Fill(updates) => updates,
        };
        let progress = updates.borrow_and_update().clone();
        match (progress.end, progress.file) {
            (Some(end), _) => {
                self.nar.source = Source::Disk(end?);
                self.next()
            }
            (None, Some(file)) if at < progress.written => {
                let length = usize::try_from((progress.written - at).min(BLOCK)).unwrap_or_default();
                let cached = file.get().ok().and_then(|file| read_cached(file, at, length));
                Ok(cached.map_or_else(
                    || self.read_fill(file, at, length),
                    |buffer| Next::Read(Ok(Bytes::from_owner(buffer))),
                ))
            }
            (None, _) => {
                let (mut updates, disk) = (updates.clone(), Arc::clone(&self.nar.disk));
                Ok(Next::Wait(Box::pin(async move {
                    loop {
                        match tokio::time::timeout(STALL_CHECK, updates.changed()).await {
                            Ok(Ok(())) => return Event::Progress,
                            // A fill that is gone without an end has panicked.
                            Ok(Err(gone)) => return Event::Read(Err(io::Error::other(gone))),
                            Err(_) if disk.threads().is_stalled() => {
                                return Event::Read(Err(io::ErrorKind::TimedOut.into()));
                            }
                            Err(_) => {}
                        }
                    }
                })))
            }
        }
    }

    /// Reads from the page cache, or else on a thread that may wait for the disk.
    fn read_entry(&self, entry: Arc<Entry>) -> Next {
        let (disk, key, at) = (&self.nar.disk, &self.nar.key, self.at);
        let cached = disk.file_if_open(key).map_or(Ok(None), |file| entry.read_in_memory(file.get()?, at));
        let (disk, key) = (Arc::clone(disk), key.clone());
        match cached.transpose() {
            Some(read) => Next::Read(read),
            None => self.read_on_thread(move || disk.read(&key, &entry, at)),
        }
    }

    fn read_fill(&self, file: Arc<DiskFile>, at: u64, length: usize) -> Next {
        self.read_on_thread(move || {
            let mut buffer = Buffer::new(length);
            file.get()?.read_exact_at(buffer.as_mut(), at)?;
            Ok(Bytes::from_owner(buffer))
        })
    }

    fn read_on_thread(&self, read: impl FnOnce() -> io::Result<Bytes> + Send + 'static) -> Next {
        let threads = self.nar.disk.threads().clone();
        Next::Wait(Box::pin(async move { Event::Read(threads.run(READ_TIMEOUT, read).await.and_then(|read| read)) }))
    }
}

enum Next {
    Read(io::Result<Bytes>),
    End,
    Wait(PendingRead),
}
