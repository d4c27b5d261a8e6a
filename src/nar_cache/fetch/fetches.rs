//! The fetches of one cache: at most one for each file, each of which writes its file once for all who read along.
//!
//! The last byte can be read only when the hash of the file is right. A fetch waits for its turn without holding anything, and is
//! abandoned if everyone who waits for it leaves before that. Once it runs, it runs to its end.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use tokio::sync::{mpsc, watch};

use super::source::{FileSource, FileToFetch};
use crate::fairness::{ClientId, FairSemaphore};
use crate::metrics::Metrics;
use crate::nar_cache::disk::disk_cache::DiskCache;
use crate::nar_cache::disk::entry::{Entry, EntryWriter, NO_NAR};
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::disk::reservation::{Reservation, TempFile};
use crate::nar_cache::error::FillError;
use crate::nar_cache::fill::fills::Joined;
use crate::nar_cache::fill::progress::{Progress, while_awaited};
use crate::sync::Mutex;

/// Files that are fetched at a time: as many as keep a network busy. Each has a connection, and a piece in memory.
const AT_ONCE: usize = 8;
/// Bytes that are written at once.
const PIECE: usize = 512 << 10;
/// Limit on writing a piece, or on giving the file its name.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// All fetches of one cache, and what they need.
#[derive(Debug)]
pub(crate) struct Fetches {
    disk: Arc<DiskCache>,
    turns: FairSemaphore,
    active: Mutex<HashMap<EntryKey, Fetch>>,
}

/// A fetch that runs or waits for its turn.
#[derive(Debug)]
struct Fetch {
    /// Closed when nobody waits for it any more.
    progress: Arc<watch::Sender<Progress>>,
    /// Clients whose turns it may use.
    clients: mpsc::UnboundedSender<ClientId>,
}

impl Fetch {
    fn join(&self, client: ClientId) -> watch::Receiver<Progress> {
        // Fails once it runs, and needs no turn any more.
        let _ = self.clients.send(client);
        self.progress.subscribe()
    }
}

impl Fetches {
    pub(crate) fn new(disk: Arc<DiskCache>, metrics: &Metrics) -> Self {
        Self { disk, turns: FairSemaphore::new("fetch", AT_ONCE, metrics), active: Mutex::default() }
    }

    /// Joins the fetch of a file that was not found on disk, or starts it.
    pub(crate) fn join_or_start<F>(
        self: &Arc<Self>,
        key: &EntryKey,
        file: FileToFetch,
        client: ClientId,
        open: F,
    ) -> Result<Joined, FillError>
    where
        F: Future<Output = io::Result<Box<dyn FileSource>>> + Send + 'static,
    {
        if self.disk.threads().is_stalled() {
            return Err(FillError::Disk("the disk does not answer".to_owned()));
        }
        let mut active = self.active.lock();
        if let Some(fetch) = active.get(key) {
            return Ok(Joined::Running(fetch.join(client)));
        }
        // A fetch that ended since has published its entry before it was removed from `active`.
        if let Ok(Some(entry)) = self.disk.find_in_memory(key) {
            return Ok(Joined::Finished(entry));
        }
        if !self.disk.fits(file.info.size) {
            return Err(FillError::too_large());
        }
        let (sender, clients) = mpsc::unbounded_channel();
        let fetch = Fetch { progress: Arc::new(watch::Sender::new(Progress::default())), clients: sender };
        let (reading, progress) = (fetch.join(client), Arc::clone(&fetch.progress));
        active.insert(key.clone(), fetch);
        tokio::spawn(Arc::clone(self).run(key.clone(), file, (clients, progress), open));
        Ok(Joined::Started(reading))
    }

    /// Runs a fetch and removes it at its end.
    async fn run<F>(
        self: Arc<Self>,
        key: EntryKey,
        file: FileToFetch,
        (clients, progress): (mpsc::UnboundedReceiver<ClientId>, Arc<watch::Sender<Progress>>),
        open: F,
    ) where
        F: Future<Output = io::Result<Box<dyn FileSource>>> + Send + 'static,
    {
        let turn = self.turns.acquire_for_any(clients, 1);
        let Some(permit) = while_awaited(turn, &progress, &self.active, &key).await else { return };
        // In its own task, so that a panic ends the fetch for those who wait, and not only the task.
        let writing = fetch(Arc::clone(&self.disk), key.clone(), file, Arc::clone(&progress), open);
        let end = tokio::spawn(writing).await.unwrap_or(Err(FillError::Abandoned));
        drop(permit);
        // The entry was published before the fetch is removed here.
        self.active.lock().remove(&key);
        progress.send_modify(|progress| {
            progress.file = None;
            progress.end = Some(end);
        });
    }
}

async fn fetch<F>(
    disk: Arc<DiskCache>,
    key: EntryKey,
    file: FileToFetch,
    progress: Arc<watch::Sender<Progress>>,
    open: F,
) -> Result<Arc<Entry>, FillError>
where
    F: Future<Output = io::Result<Box<dyn FileSource>>> + Send + 'static,
{
    let FileToFetch { info: expected, path } = file;
    let mut source = open.await.map_err(|cause| FillError::fetch(&cause))?;
    let reservation = disk.reserve(expected.size).await?;
    let mut writing = Writing::create(&disk, reservation, expected.size).await?;
    progress.send_modify(|progress| progress.file = Some(Arc::clone(&writing.file.file)));
    let (mut read, mut pieces, mut unwritten) = (0, Vec::new(), 0);
    loop {
        let piece = poll_fn(|context| source.poll_piece(context)).await.map_err(|cause| FillError::fetch(&cause))?;
        let is_end = piece.is_none();
        if let Some(piece) = piece {
            read += piece.len() as u64;
            unwritten += piece.len();
            pieces.push(piece);
        }
        if read > expected.size {
            return Err(FillError::Fetch("it is longer than expected".to_owned()));
        }
        if unwritten >= PIECE || (is_end && unwritten > 0) {
            writing = writing.append(&disk, std::mem::take(&mut pieces)).await?;
            unwritten = 0;
            // The last byte is for those who wait for the end.
            progress.send_modify(|progress| progress.written = read.min(expected.size.saturating_sub(1)));
        }
        if is_end {
            break;
        }
    }
    if read < expected.size {
        return Err(FillError::Fetch("it ends too early".to_owned()));
    }
    writing.finish(disk, key, expected.sha256, path).await
}

/// A file that is being written.
struct Writing {
    file: TempFile,
    writer: EntryWriter,
    reservation: Reservation,
}

impl Writing {
    async fn create(disk: &Arc<DiskCache>, reservation: Reservation, size: u64) -> Result<Self, FillError> {
        let on = Arc::clone(disk);
        let create = move || {
            let file = on.create(size)?;
            let writer = EntryWriter::new(Arc::clone(&file.file));
            Ok(Self { file, writer, reservation })
        };
        run(disk, create).await
    }

    async fn append(mut self, disk: &Arc<DiskCache>, pieces: Vec<Bytes>) -> Result<Self, FillError> {
        let append = move || {
            for piece in pieces {
                self.reservation.grow(piece.len() as u64);
                self.writer.append(&piece)?;
            }
            Ok(self)
        };
        run(disk, append).await
    }

    /// Gives the file its name if its hash is right.
    async fn finish(
        self,
        disk: Arc<DiskCache>,
        key: EntryKey,
        sha256: [u8; 32],
        path: Option<StorePath>,
    ) -> Result<Arc<Entry>, FillError> {
        let Self { file, writer, reservation } = self;
        let on = Arc::clone(&disk);
        let finish = move || {
            let info = writer.finish(key.nar_hash, NO_NAR, path.as_ref().map_or("", StorePath::base_name))?;
            if info.sha256 != sha256 {
                return Ok(None);
            }
            on.publish(file, &key, info, true, reservation).map(Some)
        };
        run(&disk, finish).await?.ok_or_else(|| FillError::Fetch("it has another hash".to_owned()))
    }
}

/// Runs work that may wait for the disk.
async fn run<T: Send + 'static>(
    disk: &DiskCache,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FillError> {
    let done = disk.threads().run(WRITE_TIMEOUT, work).await.and_then(|done| done);
    done.map_err(|cause| FillError::disk(&cause))
}
