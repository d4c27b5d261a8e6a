//! Compressed NARs: made once, served many times, from any byte on.
//!
//! Owns how NARs are compressed, the directory that keeps them, and the fills that make them. A fill reads the daemon's
//! dump once, proves it, and writes it as zstd frames; whoever asks meanwhile reads along, whoever asks later reads the
//! file. Its promise: the bytes of one encoding of one NAR never change, be it from the disk or from a fill, and there is
//! no last frame but of a NAR that was proven. Leaves HTTP to `http`, with what it answers where there is no cache, and
//! what is valid to `store`.

mod admin;
mod ahead;
mod block;
mod by_hand;
mod directory;
mod disk;
mod disk_threads;
mod encoder_threads;
mod encoding;
mod entry;
mod error;
mod fill;
pub mod frames;
mod handed_over;
mod index;
mod kept;
mod layout;
mod open_files;
mod plain;
mod room;
mod source;
#[cfg(test)]
mod tests;
mod units;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::hash::NarHash;
use tokio::sync::Semaphore;

pub use admin::{Verdict, clear, look, off, stats, verify};
pub use by_hand::{ByHandError, Outcome, resolve, wanted};
pub use directory::{CacheDirectory, DirectoryError};
pub use encoding::{Encoding, EncodingTag, parameters, version};
pub use entry::FileInfo;
pub use error::FillError;
pub use fill::Making;
pub use kept::{KeptNar, Removed, Wanted, list, remove};
pub use plain::PlainNar;
pub use source::{CompressedBytes, CompressedNar};

use crate::config::{self, Config};
use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::{Metrics, NarCacheEvent, NarCacheUsage};
use crate::store::{Store, ValidPath};
use crate::sync::Mutex;
use ahead::Ahead;
use disk::Disk;
use encoder_threads::EncoderThreads;
use entry::Entry;
use fill::Fill;
use handed_over::HandedOver;
use index::Key;
use plain::Decoded;
use source::Source;

/// For decoders, in bytes: one of the largest window, or some of smaller ones.
const DECODER_MEMORY: usize = 144 << 20;
/// What a decoder takes beside its window, or a little more, in bytes.
const DECODER: usize = 1 << 20;
/// Memory is counted in these.
const GRAIN: usize = 1 << 20;
/// How often what is made while nothing else is to do looks for that.
const BUSY: Duration = Duration::from_secs(1);
/// How long a request waits for the disk to say what is there: clients want a head within some seconds.
const FINDING: Duration = Duration::from_secs(2);

/// The compressed NARs of one store.
#[derive(Debug)]
pub struct NarCache {
    store: Arc<Store>,
    encoding: Encoding,
    tag: Arc<EncodingTag>,
    disk: Arc<Disk>,
    fills: Mutex<HashMap<Key, Fill>>,
    mode: config::Ahead,
    ahead: Ahead,
    /// How many are made ahead at one time.
    making_ahead: Arc<Semaphore>,
    handed_over: HandedOver,
    encoder_threads: EncoderThreads,
    decoders: FairSemaphore,
    /// Whether the disk failed the last time, which is logged once.
    is_troubled: AtomicBool,
    /// Whether the log has that there are NARs which do not fit in.
    has_told_of_size: AtomicBool,
    metrics: Arc<Metrics>,
}

impl NarCache {
    /// As `config` says; nothing where it names no directory. One that cannot be used is an error in the log, and there is
    /// no cache then. Must be called in a runtime.
    #[must_use]
    pub fn open(config: &Config, store: Arc<Store>, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        Self::open_as(config, store, metrics, true)
            .inspect_err(|error| tracing::error!("{error}\n  nars are served uncompressed until a restart"))
            .ok()?
    }

    /// As [`Self::open`], for a command, which needs one and tells nothing of what is kept already.
    pub fn open_for_command(config: &Config, store: Arc<Store>) -> Result<Option<Arc<Self>>, DirectoryError> {
        Self::open_as(config, store, Arc::default(), false)
    }

    fn open_as(
        config: &Config,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        is_server: bool,
    ) -> Result<Option<Arc<Self>>, DirectoryError> {
        let Some(settings) = config.nar_cache.as_ref() else { return Ok(None) };
        let max_size = settings.max_size.bytes();
        // One encoder is left to what clients wait for.
        let unasked = config.encoders.threads.saturating_sub(1).max(1);
        let dir = CacheDirectory::take_configured(&settings.dir, config)?;
        let disk = Arc::new(Disk::take(dir, max_size, Arc::clone(&metrics))?);
        let (encoding, scanned) = (Encoding::new(config.zstd), Arc::clone(&disk));
        tokio::task::spawn_blocking(move || scan(&scanned, max_size, is_server));
        Ok(Some(Arc::new(Self {
            store,
            tag: Arc::new(encoding.tag().clone()),
            disk,
            fills: Mutex::default(),
            mode: settings.ahead,
            ahead: Ahead::default(),
            making_ahead: Arc::new(Semaphore::new(unasked)),
            handed_over: HandedOver::new(unasked),
            encoder_threads: EncoderThreads::new(config.encoders, &encoding, &metrics),
            encoding,
            decoders: FairSemaphore::new("decoder_memory", DECODER_MEMORY / GRAIN, &metrics),
            is_troubled: AtomicBool::new(false),
            has_told_of_size: AtomicBool::new(false),
            metrics,
        })))
    }

    /// Takes up what of these settings can change: what the disk may take.
    pub fn adjust(&self, config: &Config) {
        if let Some(settings) = &config.nar_cache {
            let (disk, max_size) = (Arc::clone(&self.disk), settings.max_size.bytes());
            self.has_told_of_size.store(false, Ordering::Relaxed);
            tokio::task::spawn_blocking(move || disk.resize(max_size));
        }
    }

    /// The name of the encoding that is made here.
    #[must_use]
    pub fn tag(&self) -> &EncodingTag {
        &self.tag
    }

    /// Whether the compressed form of a NAR of `size` bytes fits in, whatever it comes to.
    #[must_use]
    pub fn takes(&self, size: u64) -> bool {
        self.disk.takes(size)
    }

    /// The same for the NAR of a valid path. The first that does not fit is told of.
    #[must_use]
    pub fn takes_nar(&self, valid: &ValidPath) -> bool {
        let fits = self.takes(valid.info.nar_size);
        if !fits && !self.has_told_of_size.swap(true, Ordering::Relaxed) {
            let (path, size) = (self.store.directory().full_path(&valid.path), valid.info.nar_size >> 20);
            let most = self.disk.max_size() >> 20;
            tracing::info!(
                "nars that would not fit into the cache ({most} MiB) are served uncompressed, the first is that of {path} \
                 ({size} MiB)"
            );
        }
        fits
    }

    /// What is known of the compressed form of a NAR, without a look at the disk.
    #[must_use]
    pub fn file_info(&self, nar_hash: &NarHash) -> Option<FileInfo> {
        self.disk.info(&self.key(nar_hash))
    }

    /// The compressed form of a valid path's NAR. Begins to make it where there is none. It is an error if the disk does
    /// not say in time whether there is one, or has no room for one.
    pub async fn compressed(
        self: &Arc<Self>,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<CompressedNar, FillError> {
        let key = self.key(&valid.info.nar_hash);
        self.ahead.fetched(&key);
        let source = self.source(&key, valid, client).await;
        let source = source.inspect_err(|_| self.metrics.nar_cache(NarCacheEvent::Bypassed))?;
        Ok(CompressedNar { cache: Arc::clone(self), key, valid: Some(Arc::clone(valid)), source })
    }

    /// The compressed form of a NAR if it is kept, also by another encoding, and of a path that is not valid any more.
    pub async fn kept(self: &Arc<Self>, tag: &EncodingTag, nar_hash: &NarHash) -> Option<CompressedNar> {
        let key = Key { tag: Arc::new(tag.clone()), nar_hash: *nar_hash };
        let entry = self.entry(&key).await.ok()??;
        Some(CompressedNar { cache: Arc::clone(self), key, valid: None, source: Source::Disk(entry) })
    }

    /// The NAR itself from its byte `first` on, out of its compressed form, if that is kept and there is memory for one
    /// decoder more, which is the permit's.
    pub async fn plain(&self, nar_hash: &NarHash, first: u64, client: ClientId) -> Option<(PlainNar, Permit)> {
        let key = self.key(nar_hash);
        let entry = self.entry(&key).await.ok()??;
        // No window is larger than its frame.
        let window = usize::try_from(entry.nar_size().min(frames::FRAME)).ok()?;
        let memory = self.decoders.try_acquire(client, (window + DECODER).div_ceil(GRAIN))?;
        let (disk, read_of, read_key) = (Arc::clone(&self.disk), Arc::clone(&entry), key.clone());
        let read = Box::new(move |at| disk.read(&read_key, &read_of, at));
        let decoded = Decoded::new(entry, first, read).ok()?;
        Some((PlainNar { decoded, disk: Arc::clone(&self.disk), key }, memory))
    }

    /// What each read of a [`PlainNar`] takes a permit of.
    #[must_use]
    pub fn reads(&self) -> &Arc<Semaphore> {
        self.disk.threads().calls()
    }

    /// The NARs that are being compressed for the disk, or wait for that, in no order.
    #[must_use]
    pub fn making(&self) -> Vec<Making> {
        self.fills().values().map(Fill::making).collect()
    }

    /// Bytes that the files of the directory may take.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.disk.max_size()
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.disk.dir()
    }

    /// Enters what is kept into the metrics.
    pub fn record(&self) {
        let (entries, bytes) = self.disk.usage();
        let fills = self.fills().len();
        self.metrics.nar_cache_usage(NarCacheUsage { entries, bytes, fills });
    }

    /// A client has been told of a valid path, and will want the compressed form of its NAR: it is made ahead, where that is
    /// wanted.
    pub fn expect(&self, valid: &Arc<ValidPath>, client: ClientId) {
        let key = self.key(&valid.info.nar_hash);
        if self.mode != config::Ahead::Off && self.disk.info(&key).is_none() && self.disk.takes(valid.info.nar_size) {
            self.ahead.wish(client, key, valid);
        }
    }

    /// Whether NARs of paths that are new in the store are made too.
    #[must_use]
    pub fn makes_new(&self) -> bool {
        self.mode == config::Ahead::New
    }

    /// Makes what is expected to be asked for, without an end.
    pub async fn make_ahead(self: &Arc<Self>) {
        loop {
            // It is never closed.
            let permit = Arc::clone(&self.making_ahead).acquire_owned().await;
            let wish = self.ahead.next().await;
            let cache = Arc::clone(self);
            tokio::spawn(async move {
                let _permit = permit;
                // What nobody is known to wait for is for when there is nothing else to do.
                while wish.client == ClientId::Server && !cache.fills().is_empty() {
                    tokio::time::sleep(BUSY).await;
                }
                match cache.source(&wish.key, &wish.valid, ClientId::Server).await {
                    Ok(Source::Fill(mut progress)) => {
                        cache.metrics.nar_cache(NarCacheEvent::Ahead);
                        // Whatever comes of it is for whoever asks.
                        let _ = progress.wait_for(|progress| progress.end.is_some()).await;
                    }
                    // Nobody has to fetch what is there already, or cannot be.
                    Ok(Source::Disk(_)) | Err(_) => cache.ahead.fetched(&wish.key),
                }
            });
        }
    }

    async fn source(
        self: &Arc<Self>,
        key: &Key,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<Source, FillError> {
        let count = |event| {
            if client != ClientId::Server {
                self.metrics.nar_cache(event);
            }
        };
        if let Some(entry) = self.entry(key).await? {
            count(NarCacheEvent::Hit);
            return Ok(Source::Disk(entry));
        }
        // A fill that is under way would not get on either.
        if self.disk.threads().are_stuck() {
            return Err(FillError::Disk("the disk does not answer".to_owned()));
        }
        let mut fills = self.fills();
        if let Some(fill) = fills.get(key) {
            count(NarCacheEvent::Joined);
            return Ok(Source::Fill(fill.join(client)));
        }
        // A fill enters its file before it is forgotten here.
        if let Ok(Some(entry)) = self.disk.find_now(key) {
            count(NarCacheEvent::Hit);
            return Ok(Source::Disk(entry));
        }
        if !self.disk.takes(valid.info.nar_size) {
            return Err(FillError::Disk("it is larger than nar_cache.max_size".to_owned()));
        }
        count(NarCacheEvent::Filled);
        let (fill, filler) = Fill::new(Arc::clone(valid));
        let progress = fill.join(client);
        fills.insert(key.clone(), fill);
        tokio::spawn(filler.run(Arc::clone(self), key.clone(), Arc::clone(valid)));
        Ok(Source::Fill(progress))
    }

    /// What is on disk of a NAR.
    async fn entry(&self, key: &Key) -> Result<Option<Arc<Entry>>, FillError> {
        if let Ok(found) = self.disk.find_now(key) {
            return Ok(found);
        }
        let (disk, wanted) = (Arc::clone(&self.disk), key.clone());
        let found = self.disk.threads().run(FINDING, move || disk.find(&wanted)).await;
        found.map_err(|cause| FillError::disk(&cause))
    }

    /// Says once that the disk fails, until it works again.
    fn note(&self, end: &Result<Arc<Entry>, FillError>) {
        match end {
            Ok(_) => self.is_troubled.store(false, Ordering::Relaxed),
            Err(error @ FillError::Disk(_)) if !self.is_troubled.swap(true, Ordering::Relaxed) => {
                let dir = self.disk.dir().display();
                tracing::error!("the cache of nars in {dir} fails, and nars are served uncompressed: {error}");
            }
            Err(_) => {}
        }
    }

    fn key(&self, nar_hash: &NarHash) -> Key {
        Key { tag: Arc::clone(&self.tag), nar_hash: *nar_hash }
    }

    fn fills(&self) -> MutexGuard<'_, HashMap<Key, Fill>> {
        self.fills.lock()
    }
}

fn scan(disk: &Disk, max_size: u64, is_server: bool) {
    // Not a call to the disk as others are: it may take long, and the disk is not stuck then.
    match disk.scan() {
        Ok(()) => {
            let (entries, bytes) = disk.usage();
            if is_server {
                tracing::info!("cache of nars: {entries} kept, {} MiB", bytes >> 20);
            }
            if let Ok(Some(shortage)) = room::shortage(disk.dir(), max_size, bytes) {
                tracing::warn!("{shortage}");
            }
        }
        Err(cause) => tracing::error!("cannot look through the cache of nars: {cause}"),
    }
}
