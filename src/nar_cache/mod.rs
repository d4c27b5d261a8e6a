//! Compressed NARs: made once, served many times, from any byte on.
//!
//! Owns how NARs are compressed, the directory that keeps them, and the fills that make them. A fill reads the daemon's
//! dump once, proves it, and writes it as zstd frames; whoever asks meanwhile reads along, whoever asks later reads the
//! file. Its promise: the bytes of one encoding of one NAR never change, be it from the disk, from a fill, or made for one
//! response alone, and there is no last frame but of a NAR that was proven. Leaves HTTP to `http`, and what is valid to
//! `store`.

mod admin;
mod block;
mod disk;
mod encode;
mod encoder_threads;
mod encoding;
mod entry;
mod fill;
pub mod frames;
mod index;
mod plain;
mod room;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmonia_protocol::hash::NarHash;
use tokio::sync::mpsc;

pub use admin::{Verdict, clear, stats, verify};
pub use disk::DiskError;
pub use encoding::{Encoding, EncodingTag, parameters, version};
pub use entry::FileInfo;
pub use plain::PlainNar;
pub use source::{CompressedBytes, CompressedNar};

use crate::client::Client;
use crate::config::Config;
use crate::fairness::FairSemaphore;
use crate::metrics::{Metrics, NarCacheEvent, NarCacheUsage};
use crate::store::{Nar, Store, StoreError, ValidPath};
use disk::Disk;
use encode::Pieces;
use encoder_threads::EncoderThreads;
use fill::Fill;
use index::Key;
use plain::Decoded;
use room::{Plan, Rooms};
use source::Source;

/// For the encoders of bodies beside fills.
const BODY_ROOMS: Plan = Plan { small: 2, large: 40 << 20 };
/// For the encoders of bodies where there is no disk, and no fill: three with a window of 32 MiB, which slow clients
/// may keep for as long as they like.
const BODY_ROOMS_ALONE: Plan = Plan { small: 5, large: 120 << 20 };
/// For the encoders of fills, for each thread that encodes, of two at least and of eight at the most: one with a window of
/// 32 MiB, and two of small NARs, so that there is always one at work while another waits for the daemon.
const FILL_ROOMS: Plan = Plan { small: 2, large: 40 << 20 };
const FILLING_THREADS: [usize; 2] = [2, 8];
/// For the windows of decoders, in bytes.
const DECODER_MEMORY: usize = 64 << 20;
/// Fills that run or wait, a descriptor each; no client's leaving stops one. Beyond, or beyond its share, NARs are
/// compressed for their client alone, and no longer than it stays.
const MAX_FILLS: usize = 64;
/// Memory is counted in these.
const GRAIN: usize = 1 << 20;
/// The largest window of a decoder.
const MAX_WINDOW: u64 = 32 << 20;

/// Why compressed bytes cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FillError {
    /// The NAR cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encoder failed, e.g. because the server stops.
    #[error("cannot compress a nar: {0}")]
    Encoder(String),
    /// The disk did.
    #[error("cannot write a compressed nar: {0}")]
    Disk(String),
    /// Neither is there any more.
    #[error("the source of a compressed nar is gone")]
    Gone,
}

impl FillError {
    fn encoder(cause: &io::Error) -> Self {
        Self::Encoder(cause.to_string())
    }

    fn disk(cause: &io::Error) -> Self {
        Self::Disk(cause.to_string())
    }
}

/// The compressed NARs of one store.
#[derive(Debug)]
pub struct NarCache {
    store: Arc<Store>,
    encoding: Encoding,
    tag: Arc<EncodingTag>,
    disk: Option<Arc<Disk>>,
    fills: Mutex<HashMap<Key, Fill>>,
    fill_places: FairSemaphore,
    encoder_threads: Arc<EncoderThreads>,
    fill_rooms: Rooms,
    body_rooms: Rooms,
    decoders: FairSemaphore,
    /// Whether the disk failed the last time, which is logged once.
    is_troubled: AtomicBool,
    metrics: Arc<Metrics>,
}

impl NarCache {
    /// As `config` says. A directory that cannot be used is an error in the log, and none is used then. Must be called in
    /// a runtime.
    #[must_use]
    pub fn new(config: &Config, store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        let encoding = Encoding::new(config.zstd);
        let disk = config.nar_cache.as_ref().and_then(|settings| {
            let taken = Disk::take(&settings.dir, settings.max_size.bytes(), Arc::clone(&metrics));
            taken.inspect_err(|error| tracing::error!("{error}\n  help: nars are compressed for each client anew")).ok()
        });
        let disk = disk.map(Arc::new);
        if let Some(disk) = &disk {
            tokio::task::spawn_blocking({
                let disk = Arc::clone(disk);
                move || scan(&disk)
            });
        }
        let body_rooms = if disk.is_some() { BODY_ROOMS } else { BODY_ROOMS_ALONE };
        let [least, most] = FILLING_THREADS;
        let threads = config.encoders.threads.clamp(least, most);
        let fill_rooms = Plan { small: threads * FILL_ROOMS.small, large: threads * FILL_ROOMS.large };
        Self {
            store,
            tag: Arc::new(encoding.tag().clone()),
            disk,
            fills: Mutex::default(),
            fill_places: FairSemaphore::new("fill", MAX_FILLS, &metrics),
            encoder_threads: Arc::new(EncoderThreads::new(config.encoders)),
            fill_rooms: Rooms::new(fill_rooms, &encoding, &metrics),
            body_rooms: Rooms::new(body_rooms, &encoding, &metrics),
            encoding,
            decoders: FairSemaphore::new("decoder_memory", DECODER_MEMORY / GRAIN, &metrics),
            is_troubled: AtomicBool::new(false),
            metrics,
        }
    }

    /// Takes up what of these settings can change: what the disk may take.
    pub fn adjust(&self, config: &Config) {
        if let (Some(disk), Some(settings)) = (&self.disk, &config.nar_cache) {
            disk.resize(settings.max_size.bytes());
        }
    }

    /// The name of the encoding that is made here.
    #[must_use]
    pub fn tag(&self) -> &EncodingTag {
        &self.tag
    }

    /// Whether NARs are kept.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.disk.is_some()
    }

    /// What is known of the compressed form of a NAR, without a look at the disk.
    #[must_use]
    pub fn file_info(&self, nar_hash: &NarHash) -> Option<FileInfo> {
        self.disk.as_ref()?.info(&self.key(nar_hash))
    }

    /// The compressed form of a valid path's NAR. Begins to make it where there is none and it can be kept.
    pub fn compressed(self: &Arc<Self>, valid: &Arc<ValidPath>, client: Client) -> CompressedNar {
        let key = self.key(&valid.info.nar_hash);
        let source = if let Some(disk) = &self.disk {
            self.source(disk, &key, valid, client)
        } else {
            self.metrics.nar_cache(NarCacheEvent::Bypassed);
            Source::Daemon(None)
        };
        CompressedNar { cache: Arc::clone(self), key, valid: Some(Arc::clone(valid)), client, source }
    }

    /// The compressed form of a NAR if it is kept, also by another encoding, and of a path that is not valid any more.
    pub fn kept(self: &Arc<Self>, tag: &EncodingTag, nar_hash: &NarHash, client: Client) -> Option<CompressedNar> {
        let key = Key { tag: Arc::new(tag.clone()), nar_hash: *nar_hash };
        let entry = entry(self.disk.as_ref()?, &key)?;
        Some(CompressedNar { cache: Arc::clone(self), key, valid: None, client, source: Source::Disk(entry) })
    }

    /// The NAR itself from its byte `first` on, out of its compressed form, if that is kept and there is memory for one
    /// decoder more.
    #[must_use]
    pub fn plain(&self, nar_hash: &NarHash, first: u64, client: Client) -> Option<PlainNar> {
        let disk = self.disk.as_ref()?;
        let key = self.key(nar_hash);
        let entry = entry(disk, &key)?;
        let grains = usize::try_from(entry.nar_size().min(MAX_WINDOW)).ok()?.div_ceil(GRAIN);
        let memory = self.decoders.try_acquire(client, grains)?;
        let decoded = Decoded::new(entry, first).ok()?;
        Some(PlainNar { decoded, disk: Arc::clone(disk), key, _memory: memory })
    }

    /// Enters what is kept into the metrics.
    pub fn record(&self) {
        let (entries, bytes) = self.disk.as_ref().map_or((0, 0), |disk| disk.usage());
        let fills = self.fills().len();
        self.metrics.nar_cache_usage(NarCacheUsage { entries, bytes, fills });
    }

    fn source(self: &Arc<Self>, disk: &Arc<Disk>, key: &Key, valid: &Arc<ValidPath>, client: Client) -> Source {
        if let Some(entry) = entry(disk, key) {
            self.metrics.nar_cache(NarCacheEvent::Hit);
            return Source::Disk(entry);
        }
        let mut fills = self.fills();
        if let Some(fill) = fills.get(key) {
            self.metrics.nar_cache(NarCacheEvent::Joined);
            fill.join(client);
            return Source::Fill(fill.clone());
        }
        // A fill enters its file before it is forgotten here.
        if let Ok(Some(entry)) = disk.open_now(key) {
            self.metrics.nar_cache(NarCacheEvent::Hit);
            return Source::Disk(entry);
        }
        let Some(place) = self.fill_places.try_acquire(client, 1) else {
            self.metrics.nar_cache(NarCacheEvent::Bypassed);
            return Source::Daemon(None);
        };
        match tokio::task::block_in_place(|| begin(disk, valid.info.nar_size)) {
            Ok(Some((fill, filler, joining))) => {
                self.metrics.nar_cache(NarCacheEvent::Filled);
                self.is_troubled.store(false, Ordering::Relaxed);
                fill.join(client);
                fills.insert(key.clone(), fill.clone());
                let (cache, disk, key, valid) = (Arc::clone(self), Arc::clone(disk), key.clone(), Arc::clone(valid));
                tokio::spawn(async move {
                    let _place = place;
                    let pieces = cache.fill(&valid, joining).await;
                    filler.run(pieces, &disk, &key, valid.info.nar_size).await;
                    cache.fills().remove(&key);
                });
                Source::Fill(fill)
            }
            unusable => {
                self.metrics.nar_cache(NarCacheEvent::Bypassed);
                if let Err(cause) = unusable {
                    if !self.is_troubled.swap(true, Ordering::Relaxed) {
                        tracing::error!("cannot write to the cache of nars: {cause}");
                    }
                }
                Source::Daemon(None)
            }
        }
    }

    /// The memory first: while it is waited for, no connection to the daemon is held.
    async fn fill(
        &self,
        valid: &Arc<ValidPath>,
        joining: mpsc::UnboundedReceiver<Client>,
    ) -> Result<Pieces, FillError> {
        let room = self.fill_rooms.reserve_for_any(valid.info.nar_size, joining).await;
        // It is read as fast as it is encoded, whoever it is for, and takes nothing of a client's share.
        let nar = self.store.nar_for_keeping(valid, Client::Server).await?;
        Ok(Pieces::new(nar, valid, &self.encoding, &self.encoder_threads, room))
    }

    /// For one response alone, which may take long: with memory apart from that of fills.
    async fn pieces_apart(&self, nar: Nar, valid: &ValidPath, client: Client) -> Pieces {
        let room = self.body_rooms.reserve(valid.info.nar_size, client).await;
        Pieces::new(nar, valid, &self.encoding, &self.encoder_threads, room)
    }

    fn key(&self, nar_hash: &NarHash) -> Key {
        Key { tag: Arc::clone(&self.tag), nar_hash: *nar_hash }
    }

    fn fills(&self) -> MutexGuard<'_, HashMap<Key, Fill>> {
        locked(&self.fills)
    }
}

/// A file to fill, if there is room for the NAR.
fn begin(disk: &Disk, nar_size: u64) -> io::Result<Option<(Fill, fill::Filler, mpsc::UnboundedReceiver<Client>)>> {
    if !disk.has_room(nar_size)? {
        return Ok(None);
    }
    disk.create().map(|file| Some(fill::prepare(file)))
}

fn entry(disk: &Disk, key: &Key) -> Option<Arc<entry::Entry>> {
    disk.open_now(key).unwrap_or_else(|disk::Unknown| tokio::task::block_in_place(|| disk.open(key)))
}

/// What is guarded, also after a panic of whoever had it: everything here is whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scan(disk: &Disk) {
    match disk.scan() {
        Ok(()) => {
            let (entries, bytes) = disk.usage();
            tracing::info!("cache of nars: {entries} kept, {} MiB", bytes >> 20);
        }
        Err(cause) => tracing::error!("cannot look through the cache of nars: {cause}"),
    }
}
