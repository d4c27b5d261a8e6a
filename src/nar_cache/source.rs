//! The compressed form of a NAR as it is sent, wherever it comes from: the disk, a fill that is under way, or the daemon
//! and an encoder of its own where there is no disk for it.
//!
//! The bytes are the same from each of them, so a body that loses one source goes on with another at the same place.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::block::Block;
use super::encode::Pieces;
use super::entry::{BLOCK, Entry, read_cached};
use super::fill::{Fill, Progress};
use super::index::Key;
use super::{FillError, NarCache};
use crate::client::Client;
use crate::fairness::Permit;
use crate::store::{Nar, Step, StoreError, ValidPath};

/// How long a response waits for its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);
/// A NAR of up to this size is compressed in that time, and then its length can be said.
const SMALL: u64 = 32 << 20;

/// Where the bytes come from.
pub(super) enum Source {
    Disk(Arc<Entry>),
    Fill(Fill),
    Daemon(Option<Box<Nar>>),
}

/// The compressed form of a NAR.
pub struct CompressedNar {
    pub(super) cache: Arc<NarCache>,
    pub(super) key: Key,
    /// Nothing if the path is not valid any more: then there is only the disk.
    pub(super) valid: Option<Arc<ValidPath>>,
    /// Whose share it takes where it is made for one response alone.
    pub(super) client: Client,
    pub(super) source: Source,
}

impl CompressedNar {
    /// Waits until there is something to send, but not for long, or is told that there will not be: later that can be
    /// said only by breaking the body.
    pub async fn begin(&mut self) -> Result<(), FillError> {
        if let Source::Fill(fill) = &mut self.source {
            let is_small = self.valid.as_ref().is_some_and(|valid| valid.info.nar_size <= SMALL);
            let begun = |progress: &Progress| progress.end.is_some() || (!is_small && progress.written > 0);
            let waited = tokio::time::timeout(LONGEST_BEGINNING, fill.progress.wait_for(begun)).await;
            // One that takes its time has not ended.
            let end = waited.map_or(Ok(None), |begun| begun.map(|progress| progress.end.clone()));
            match end {
                Ok(None | Some(Ok(()))) => return Ok(()),
                Ok(Some(Err(error @ FillError::Store(_)))) => return Err(error),
                Ok(Some(Err(_))) | Err(_) => self.source = Source::Daemon(None),
            }
        }
        if let (Source::Daemon(nar @ None), Some(valid)) = (&mut self.source, &self.valid) {
            let mut opened = self.cache.store.nar(valid, self.client).await?;
            opened.begin().await?;
            *nar = Some(Box::new(opened));
        }
        Ok(())
    }

    /// How many bytes there are, if that is known already.
    #[must_use]
    pub fn known_length(&self) -> Option<u64> {
        match &self.source {
            Source::Disk(entry) => Some(entry.info().size),
            Source::Fill(fill) => {
                let progress = fill.progress.borrow();
                matches!(progress.end, Some(Ok(()))).then_some(progress.written)
            }
            Source::Daemon(_) => None,
        }
    }

    /// How many bytes there are. For a NAR that is being compressed that takes until its end; where none is kept it is
    /// compressed for the answer alone.
    pub async fn length(&mut self) -> Result<u64, FillError> {
        let step = Step::Compressing;
        let length = tokio::time::timeout(step.deadline(), self.find_length()).await;
        length.unwrap_or(Err(StoreError::Late(step).into()))
    }

    async fn find_length(&mut self) -> Result<u64, FillError> {
        if let Source::Fill(fill) = &mut self.source {
            let ended = fill.progress.wait_for(|progress| progress.end.is_some()).await;
            match ended.map(|progress| (progress.end.clone(), progress.written)) {
                Ok((Some(Ok(())), written)) => return Ok(written),
                Ok((Some(Err(error @ FillError::Store(_))), _)) => return Err(error),
                Ok(_) | Err(_) => self.source = Source::Daemon(None),
            }
        }
        match (&self.source, &self.valid) {
            (Source::Disk(entry), _) => Ok(entry.info().size),
            (_, Some(valid)) => {
                let nar = self.cache.store.nar(valid, self.client).await?;
                let mut pieces = self.cache.pieces_apart(nar, valid, self.client).await;
                let mut length = 0;
                while let Some(piece) = pieces.next().await? {
                    length += piece.len() as u64;
                }
                Ok(length)
            }
            (_, None) => Err(FillError::Gone),
        }
    }

    /// The bytes from `first` on: so many, or all.
    #[must_use]
    pub fn bytes(self, first: u64, length: Option<u64>) -> CompressedBytes {
        let end = length.map(|length| first + length);
        CompressedBytes { nar: self, at: first, end, work: None, direct: None }
    }
}

type Chunk = Result<Option<Bytes>, FillError>;
type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

enum Done {
    /// From the disk.
    Read(io::Result<Bytes>),
    /// A fill has got on.
    Grown,
    /// Another source has begun.
    Begun(Result<Box<Nar>, FillError>),
}

/// Bytes of the compressed form of a NAR. It ends in an error, never cleanly, when they cannot be had.
pub struct CompressedBytes {
    nar: CompressedNar,
    at: u64,
    /// Where to stop; nothing for the end, wherever that is.
    end: Option<u64>,
    work: Option<Work>,
    direct: Option<mpsc::Receiver<Chunk>>,
}

impl CompressedBytes {
    /// Shows what it holds of what is scarce.
    pub fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        if let Source::Daemon(Some(nar)) = &self.nar.source {
            see(nar.permit());
        }
    }

    /// Bytes to come, if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end - self.at)
    }

    /// The next bytes; nothing after the last ones.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Chunk> {
        loop {
            if self.remaining() == Some(0) {
                return Poll::Ready(Ok(None));
            }
            let read = match &mut self.work {
                Some(work) => {
                    let done = ready!(work.as_mut().poll(context));
                    self.work = None;
                    match done {
                        Done::Grown => continue,
                        Done::Begun(nar) => {
                            self.nar.source = Source::Daemon(Some(nar?));
                            continue;
                        }
                        Done::Read(read) => read,
                    }
                }
                None => match ready!(self.poll_source(context)) {
                    Ok(Next::Bytes(bytes)) => Ok(bytes),
                    Ok(Next::End) => return Poll::Ready(Ok(None)),
                    Ok(Next::Work(work)) => {
                        self.work = Some(work);
                        continue;
                    }
                    Err(Lost::Source(error)) => return Poll::Ready(Err(error)),
                    Err(Lost::Disk(cause)) => Err(cause),
                },
            };
            match read {
                Ok(mut bytes) => {
                    if let Some(remaining) = self.remaining() {
                        bytes.truncate(usize::try_from(remaining).unwrap_or(usize::MAX));
                    }
                    self.at += bytes.len() as u64;
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Err(cause) => {
                    if let (Source::Disk(_), Some(disk)) = (&self.nar.source, &self.nar.cache.disk) {
                        disk.distrust(&self.nar.key, &cause);
                    }
                    self.begin_anew();
                }
            }
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Result<Next, Lost>> {
        let at = self.at;
        match &mut self.nar.source {
            Source::Disk(entry) if at >= entry.info().size => Poll::Ready(Ok(Next::End)),
            Source::Disk(entry) => Poll::Ready(match entry.read_now(at) {
                Ok(Some(bytes)) => Ok(Next::Bytes(bytes)),
                Ok(None) => {
                    let entry = Arc::clone(entry);
                    Ok(Next::Work(reading(move || entry.read(at))))
                }
                Err(cause) => Err(Lost::Disk(cause)),
            }),
            Source::Fill(fill) => {
                let Progress { written, end } = fill.progress.borrow_and_update().clone();
                Poll::Ready(match end {
                    _ if at < written => {
                        let length = usize::try_from((written - at).min(BLOCK)).unwrap_or_default();
                        let now = read_cached(&fill.file, at, length);
                        Ok(now.map_or_else(
                            || reading_on(&fill.file, at, length),
                            |block| Next::Bytes(Bytes::from_owner(block)),
                        ))
                    }
                    Some(Ok(())) => Ok(Next::End),
                    Some(Err(FillError::Disk(cause))) => Err(Lost::Disk(io::Error::other(cause))),
                    Some(Err(error)) => Err(Lost::Source(error)),
                    None => {
                        let mut progress = fill.progress.clone();
                        Ok(Next::Work(Box::pin(async move {
                            // A filler that is gone without an end has panicked.
                            match progress.changed().await {
                                Ok(()) => Done::Grown,
                                Err(gone) => Done::Read(Err(io::Error::other(gone))),
                            }
                        })))
                    }
                })
            }
            Source::Daemon(nar) => {
                if let Some(nar) = nar.take() {
                    self.direct = self.nar.stream(*nar, at);
                }
                let Some(direct) = &mut self.direct else {
                    return Poll::Ready(Err(Lost::Source(FillError::Gone)));
                };
                let chunk = ready!(direct.poll_recv(context));
                Poll::Ready(match chunk.unwrap_or(Err(FillError::Gone)) {
                    Ok(Some(bytes)) => Ok(Next::Bytes(bytes)),
                    Ok(None) => Ok(Next::End),
                    Err(error) => Err(Lost::Source(error)),
                })
            }
        }
    }

    /// Goes on from the daemon.
    fn begin_anew(&mut self) {
        let (cache, valid, client) = (Arc::clone(&self.nar.cache), self.nar.valid.clone(), self.nar.client);
        self.nar.source = Source::Daemon(None);
        self.work = Some(Box::pin(async move {
            let Some(valid) = valid else { return Done::Begun(Err(FillError::Gone)) };
            Done::Begun(cache.store.nar(&valid, client).await.map(Box::new).map_err(FillError::from))
        }));
    }
}

enum Next {
    Bytes(Bytes),
    End,
    Work(Work),
}

enum Lost {
    /// There is no other.
    Source(FillError),
    /// The daemon has it too.
    Disk(io::Error),
}

fn reading_on(file: &Arc<File>, at: u64, length: usize) -> Next {
    let file = Arc::clone(file);
    Next::Work(reading(move || {
        let mut block = Block::new(length);
        file.read_exact_at(block.as_mut(), at)?;
        Ok(Bytes::from_owner(block))
    }))
}

fn reading(read: impl FnOnce() -> io::Result<Bytes> + Send + 'static) -> Work {
    let work = tokio::task::spawn_blocking(read);
    Box::pin(async move { Done::Read(work.await.map_err(io::Error::other).and_then(|read| read)) })
}

impl CompressedNar {
    /// Compresses for one body, from `first` on. The task ends with its receiver, at the next piece.
    fn stream(&self, nar: Nar, first: u64) -> Option<mpsc::Receiver<Chunk>> {
        let (sender, receiver) = mpsc::channel(1);
        let (cache, valid, client) = (Arc::clone(&self.cache), Arc::clone(self.valid.as_ref()?), self.client);
        tokio::spawn(async move {
            let pieces = tokio::select! {
                pieces = cache.pieces_apart(nar, &valid, client) => pieces,
                () = sender.closed() => return,
            };
            let end = send(pieces, first, &sender).await;
            // Nobody may be there any more to be told.
            let _ = sender.send(end.map(|()| None)).await;
        });
        Some(receiver)
    }
}

async fn send(mut pieces: Pieces, mut skip: u64, sender: &mpsc::Sender<Chunk>) -> Result<(), FillError> {
    while let Some(piece) = pieces.next().await? {
        let mut piece = Bytes::from(piece);
        let skipped = skip.min(piece.len() as u64);
        skip -= skipped;
        piece.advance(usize::try_from(skipped).unwrap_or(piece.len()));
        let is_gone = if piece.is_empty() { sender.is_closed() } else { sender.send(Ok(Some(piece))).await.is_err() };
        if is_gone {
            return Err(FillError::Gone);
        }
    }
    Ok(())
}
