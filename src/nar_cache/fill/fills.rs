//! The fills of one cache: at most one for each NAR.
//!
//! A fill waits for an encoder without holding anything else, and is abandoned if everyone who waits for it leaves before it
//! gets one. Once it runs, it runs to its end. All who wait are told how it ended: the entry is complete, verified and
//! under its name, or the reason why there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, watch};

use super::nar_source::NarSource;
use super::progress::{ActiveFill, Fill, Filler, Progress, while_awaited};
use super::writer::{EntryFill, QUEUED_CHUNKS};
use crate::fairness::{ClientId, Permit};
use crate::nar_cache::disk::disk_cache::DiskCache;
use crate::nar_cache::disk::entry::Entry;
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::encode::chunks::NarChunks;
use crate::nar_cache::encode::encoding::Encoding;
use crate::nar_cache::encode::threads::EncoderThreads;
use crate::nar_cache::error::FillError;
use crate::nar_cache::precompress::queue::PrecompressQueue;
use crate::store::{Store, ValidPath};
use crate::sync::Mutex;

/// All fills of one cache, and what they need.
#[derive(Debug)]
pub(crate) struct Fills {
    store: Arc<Store>,
    disk: Arc<DiskCache>,
    encoding: Encoding,
    threads: EncoderThreads,
    precompress: Arc<PrecompressQueue>,
    active: Mutex<HashMap<EntryKey, Fill>>,
    /// Whether the last write failed, so that a failing disk is logged once.
    write_failed: AtomicBool,
}

/// A NAR that is on disk, or its fill.
pub(crate) enum Joined {
    /// The NAR is on disk.
    Finished(Arc<Entry>),
    /// Others had started its fill.
    Running(watch::Receiver<Progress>),
    /// Its fill has been started.
    Started(watch::Receiver<Progress>),
}

impl Fills {
    pub(crate) fn new(
        store: Arc<Store>,
        disk: Arc<DiskCache>,
        encoding: Encoding,
        threads: EncoderThreads,
        precompress: Arc<PrecompressQueue>,
    ) -> Self {
        let (active, write_failed) = (Mutex::default(), AtomicBool::new(false));
        Self { store, disk, encoding, threads, precompress, active, write_failed }
    }

    /// Joins the fill of a NAR that was not found on disk, or starts it.
    pub(crate) fn join_or_start(
        self: &Arc<Self>,
        key: &EntryKey,
        valid: &Arc<ValidPath>,
        client: ClientId,
        source: NarSource,
    ) -> Result<Joined, FillError> {
        // A running fill would make no progress either.
        if self.disk.threads().is_stalled() {
            return Err(FillError::Disk("the disk does not answer".to_owned()));
        }
        let mut active = self.active.lock();
        if let Some(fill) = active.get(key) {
            return Ok(Joined::Running(fill.join(client)));
        }
        // A fill that ended since has published its entry before it was removed from `active`.
        if let Ok(Some(entry)) = self.disk.find_in_memory(key) {
            return Ok(Joined::Finished(entry));
        }
        if !self.disk.fits(valid.info.nar_size) {
            return Err(FillError::too_large());
        }
        let (fill, filler) = Fill::new(Arc::clone(valid));
        let progress = fill.join(client);
        active.insert(key.clone(), fill);
        tokio::spawn(Arc::clone(self).run(filler, key.clone(), Arc::clone(valid), source));
        Ok(Joined::Started(progress))
    }

    /// Returns the number of fills.
    pub(crate) fn len(&self) -> usize {
        self.active.lock().len()
    }

    /// Returns whether no fill runs or waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lists the fills, in no order.
    pub(crate) fn list(&self) -> Vec<ActiveFill> {
        self.active.lock().values().map(Fill::active).collect()
    }

    /// Runs a fill and removes it at its end.
    async fn run(self: Arc<Self>, filler: Filler, key: EntryKey, valid: Arc<ValidPath>, source: NarSource) {
        let Filler { progress, clients } = filler;
        let turn = self.threads.acquire(valid.info.nar_size, clients);
        let Some(permit) = while_awaited(turn, &progress, &self.active, &key).await else { return };
        // In its own task, so that a panic ends the fill for those who wait, and not only the task.
        let writing = Arc::clone(&self).write(key.clone(), (valid, source), Arc::clone(&progress), permit);
        let end = tokio::spawn(writing).await.unwrap_or_else(|_| Err(panicked()));
        self.log_failure(&end);
        // The entry was published before the fill is removed here.
        self.active.lock().remove(&key);
        progress.send_modify(|progress| {
            progress.file = None;
            progress.end = Some(end);
        });
    }

    async fn write(
        self: Arc<Self>,
        key: EntryKey,
        (valid, source): (Arc<ValidPath>, NarSource),
        progress: Arc<watch::Sender<Progress>>,
        permit: Permit,
    ) -> Result<Arc<Entry>, FillError> {
        #[cfg(test)]
        assert!(!valid.path.base_name().ends_with("-panics"), "on purpose");
        let size = valid.info.nar_size;
        let reservation = self.disk.reserve(size).await?;
        let nar = source.open(&self.store, &valid).await?;
        let mut chunks = NarChunks::new(nar, size);
        let (sender, queued) = mpsc::channel(QUEUED_CHUNKS);
        // Starts the thread only when it has something to do; the channel has capacity for this chunk.
        let _ = sender.send(chunks.next().await).await;
        let entry = EntryFill {
            disk: Arc::clone(&self.disk),
            precompress: Arc::clone(&self.precompress),
            encoding: self.encoding.clone(),
            key,
            path: valid.path.clone(),
            size,
            reservation,
            progress,
        };
        let entry = self.threads.spawn(permit, move || entry.write(queued))?;
        let ((), entry) = tokio::join!(chunks.send_to(sender), entry);
        entry.unwrap_or_else(|_| Err(panicked()))
    }

    /// Logs that the disk fails, once until a write succeeds.
    fn log_failure(&self, end: &Result<Arc<Entry>, FillError>) {
        match end {
            Ok(_) => self.write_failed.store(false, Ordering::Relaxed),
            Err(FillError::Disk(cause)) if !self.write_failed.swap(true, Ordering::Relaxed) => {
                let dir = self.disk.dir().display();
                tracing::error!("cannot write to the NAR cache in {dir}, serving NARs uncompressed: {cause}");
            }
            Err(_) => {}
        }
    }
}

fn panicked() -> FillError {
    FillError::Encoder("the encoder panicked".to_owned())
}
