//! One NAR on its way into the cache: compressed once for all who wait, who may read what is written so far.
//!
//! A fill waits for its turn with nothing in hand, and is given up if all who wait for it leave before that comes. Once
//! it has begun it runs to its end, whoever leaves. The NAR is read by a task and encoded and written by a thread, one
//! unit after the other, so that a disk that stands still stops that thread alone. It ends in one of two ways, which all
//! who wait are told: the whole is there, proven and under its name, or there will be no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harmonia_protocol::StorePath;
use tokio::sync::{mpsc, watch};

use super::disk::Reservation;
use super::disk_threads::DiskFile;
use super::encoding::Encoding;
use super::entry::{Entry, EntryWriter};
use super::frames::FrameEncoder;
use super::index::Key;
use super::units::{Unit, Units};
use super::{FillError, NarCache};
use crate::fairness::ClientId;
use crate::fairness::Permit;
use crate::store::ValidPath;

/// Units that wait for the encoder, so that it goes on without waiting for whoever reads them.
const UNITS: usize = 2;

/// How far a fill is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Bytes that can be read.
    pub(super) written: u64,
    /// What they are read from while the fill goes on.
    pub(super) file: Option<Arc<DiskFile>>,
    /// How it ended: what is on disk now, or why no more will be.
    pub(super) end: Option<Result<Arc<Entry>, FillError>>,
}

/// A fill for those who wait for it or read along.
#[derive(Debug)]
pub(super) struct Fill {
    progress: Arc<watch::Sender<Progress>>,
    clients: mpsc::UnboundedSender<ClientId>,
    valid: Arc<ValidPath>,
    began: Instant,
}

impl Fill {
    /// One that waits for the first to join it.
    pub(super) fn new(valid: Arc<ValidPath>) -> (Self, Filler) {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let (clients, joining) = mpsc::unbounded_channel();
        (Self { progress: Arc::clone(&progress), clients, valid, began: Instant::now() }, Filler { progress, joining })
    }

    /// One more client wants it: a fill that still waits for its turn has that of this client too.
    pub(super) fn join(&self, client: ClientId) -> watch::Receiver<Progress> {
        // One that has begun has no need of it.
        let _ = self.clients.send(client);
        self.progress.subscribe()
    }
}

/// A NAR that is being compressed for the disk.
#[derive(Debug, Clone)]
pub struct Making {
    /// Of which path.
    pub valid: Arc<ValidPath>,
    /// Whether it has its turn; otherwise it waits for an encoder.
    pub has_begun: bool,
    /// Compressed bytes that have been written.
    pub written: u64,
    /// Time since it was first asked for.
    pub took: Duration,
}

impl Fill {
    /// Its progress.
    pub(super) fn making(&self) -> Making {
        let progress = self.progress.borrow();
        let (has_begun, written) = (progress.file.is_some(), progress.written);
        Making { valid: Arc::clone(&self.valid), has_begun, written, took: self.began.elapsed() }
    }
}

/// The side that fills.
pub(super) struct Filler {
    progress: Arc<watch::Sender<Progress>>,
    joining: mpsc::UnboundedReceiver<ClientId>,
}

impl Filler {
    /// Makes the entry, and takes the fill out of the cache's list at the end.
    pub(super) async fn run(self, cache: Arc<NarCache>, key: Key, valid: Arc<ValidPath>) {
        let Self { progress, joining } = self;
        let turn = cache.encoder_threads.acquire(valid.info.nar_size, joining);
        tokio::pin!(turn);
        let permit = loop {
            tokio::select! {
                permit = &mut turn => break permit,
                () = progress.closed() => {
                    let mut fills = cache.fills();
                    // Whoever joins does it under this lock.
                    if progress.is_closed() {
                        fills.remove(&key);
                        return;
                    }
                }
            }
        };
        let making = make(Arc::clone(&cache), key.clone(), valid, Arc::clone(&progress), permit);
        // In a task of its own, so that a panic ends the fill for those who wait and not only its task.
        let end = tokio::spawn(making).await.unwrap_or_else(|_| Err(panicked()));
        cache.note(&end);
        // An entry is in the index before the fill is forgotten here.
        cache.fills().remove(&key);
        progress.send_modify(|progress| {
            progress.file = None;
            progress.end = Some(end);
        });
    }
}

async fn make(
    cache: Arc<NarCache>,
    key: Key,
    valid: Arc<ValidPath>,
    progress: Arc<watch::Sender<Progress>>,
    permit: Permit,
) -> Result<Arc<Entry>, FillError> {
    #[cfg(test)]
    assert!(!valid.path.base_name().ends_with("-panics"), "on purpose");
    let size = valid.info.nar_size;
    let reservation = cache.disk.reserve(size).await?;
    // It is read as fast as it is encoded, whoever it is for, and takes nothing of a client's share.
    let nar = cache.store.nar_for_keeping(&valid, ClientId::Server).await?;
    let mut units = Units::new(nar, size);
    let (sender, waiting) = mpsc::channel(UNITS);
    // The thread begins when there is something for it to do, and there is room for that.
    let _ = sender.send(units.next().await).await;
    let (encoding, served) = (cache.encoding.clone(), Arc::clone(&cache));
    let making = Maker { cache: served, encoding, key, path: valid.path.clone(), size, reservation, progress };
    let entry = cache.encoder_threads.spawn(permit, move || making.run(waiting))?;
    let ((), entry) = tokio::join!(units.send_to(sender), entry);
    entry.unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> FillError {
    FillError::Encoder("it panicked".to_owned())
}

/// What the thread of an encoder needs.
struct Maker {
    cache: Arc<NarCache>,
    encoding: Encoding,
    key: Key,
    path: StorePath,
    /// Of the NAR, in bytes.
    size: u64,
    reservation: Reservation,
    progress: Arc<watch::Sender<Progress>>,
}

impl Maker {
    fn run(self, mut units: mpsc::Receiver<Unit>) -> Result<Arc<Entry>, FillError> {
        let Self { cache, encoding, key, path, size, mut reservation, progress } = self;
        let (disk, failed) = (&cache.disk, |cause| FillError::disk(&cause));
        let mut encoder = FrameEncoder::new(encoding, size);
        let mut file = None;
        loop {
            let Some(unit) = units.blocking_recv() else { return Err(FillError::Gone) };
            let unit = unit?;
            if unit.is_empty() {
                break;
            }
            let output = encoder.encode(&unit).map_err(|cause| FillError::encoder(&cause))?;
            let written = disk.threads().here(|| {
                let (_, writer) = match &mut file {
                    Some(file) => file,
                    none => {
                        let temporary = disk.create(size)?;
                        progress.send_modify(|progress| progress.file = Some(Arc::clone(&temporary.file)));
                        let writer = EntryWriter::new(Arc::clone(&temporary.file));
                        none.insert((temporary, writer))
                    }
                };
                reservation.grow(output.len() as u64);
                writer.append(&output)
            });
            let written = written.map_err(failed)?;
            progress.send_modify(|progress| progress.written = written);
        }
        match file.filter(|_| encoder.is_finished()) {
            Some((file, writer)) => disk.threads().here(|| {
                let info = writer.finish(key.nar_hash, size, &path)?;
                disk.publish(file, &key, info, !cache.ahead.is_unfetched(&key), reservation)
            }),
            None => return Err(FillError::Gone),
        }
        .map_err(failed)
    }
}
