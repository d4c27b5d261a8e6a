//! The NAR cache of one server or command: finds compressed NARs, has missing ones filled, and reports what it holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harmonia_protocol::hash::NarHash;
use tokio::sync::Semaphore;

use super::disk::decode::{NarDecoder, PlainNar};
use super::disk::directory::{CacheDirectory, DirectoryError};
use super::disk::disk_cache::DiskCache;
use super::disk::entry::{Entry, FileInfo};
use super::disk::free_space;
use super::disk::key::EntryKey;
use super::encode::encoding::{Encoding, EncodingTag, FRAME_SIZE};
use super::encode::threads::EncoderThreads;
use super::error::FillError;
use super::fetch::fetches::Fetches;
use super::fill::fills::{Fills, Joined};
use super::fill::nar_source::NarSource;
use super::fill::progress::ActiveFill;
use super::precompress::queue::PrecompressQueue;
use super::serve::{CompressedNar, Source};
use super::warm::queue::WarmQueue;
use crate::config::{self, Config};
use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::human_size::human_size;
use crate::metrics::{Metrics, NarCacheEvent, NarCacheUsage};
use crate::store::{Store, ValidPath};

/// Memory of all decoders, in bytes: one with the largest window, or several with smaller ones.
const DECODER_MEMORY: usize = 144 << 20;
/// Memory of one decoder apart from its window, rounded up, in bytes.
const DECODER_OVERHEAD: usize = 1 << 20;
/// Unit of the semaphore for decoder memory.
const MIB: usize = 1 << 20;
/// Limit on finding a file on disk: clients expect a response head within a few seconds.
const FIND_TIMEOUT: Duration = Duration::from_secs(2);

/// Compressed NARs of one store, in one encoding.
#[derive(Debug)]
pub struct NarCache {
    pub(super) store: Arc<Store>,
    tag: Arc<EncodingTag>,
    pub(super) disk: Arc<DiskCache>,
    pub(super) fills: Arc<Fills>,
    pub(super) fetches: Arc<Fetches>,
    mode: config::Precompress,
    pub(super) precompress: Arc<PrecompressQueue>,
    /// Limits NARs that are precompressed at one time.
    pub(super) precompress_permits: Arc<Semaphore>,
    pub(super) warm_queue: WarmQueue,
    decoders: FairSemaphore,
    /// Whether the log already names a NAR that is too large.
    has_logged_too_large: AtomicBool,
    pub(super) metrics: Arc<Metrics>,
}

impl NarCache {
    /// Opens the configured cache and scans it in the background; `None` if there is none, or if its directory cannot be
    /// used, which is logged. Must be called within a tokio runtime.
    #[must_use]
    pub fn open(config: &Config, store: Arc<Store>, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        Self::open_as(config, store, metrics, true)
            .inspect_err(|error| tracing::error!("NARs are served uncompressed until a restart: {error}"))
            .ok()?
    }

    /// Opens the configured cache for a command, which reports failures itself and does not log what the cache contains.
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
        // One encoder stays free for NARs that clients wait for.
        let background = config.encoders.threads.saturating_sub(1).max(1);
        let dir = CacheDirectory::create_configured(&settings.dir, config)?;
        let disk = Arc::new(DiskCache::open(dir, max_size, Arc::clone(&metrics))?);
        if config.bucket.is_some() {
            disk.index_files();
        }
        let scanned = Arc::clone(&disk);
        tokio::task::spawn_blocking(move || scan(&scanned, max_size, is_server));
        let encoding = Encoding::new(config.zstd);
        let threads = EncoderThreads::new(config.encoders, &encoding, &metrics);
        let tag = Arc::new(encoding.tag().clone());
        let precompress = Arc::new(PrecompressQueue::default());
        let fills = Fills::new(Arc::clone(&store), Arc::clone(&disk), encoding, threads, Arc::clone(&precompress));
        let fetches = Arc::new(Fetches::new(Arc::clone(&disk), &metrics));
        Ok(Some(Arc::new(Self {
            store,
            tag,
            fetches,
            disk,
            fills: Arc::new(fills),
            mode: settings.precompress,
            precompress,
            precompress_permits: Arc::new(Semaphore::new(background)),
            warm_queue: WarmQueue::new(background),
            decoders: FairSemaphore::new("decoder_memory", DECODER_MEMORY / MIB, &metrics),
            has_logged_too_large: AtomicBool::new(false),
            metrics,
        })))
    }

    /// Applies the settings that a reload can change, which is the size of the cache.
    pub fn apply_config(&self, config: &Config) {
        if let Some(settings) = &config.nar_cache {
            let (disk, max_size) = (Arc::clone(&self.disk), settings.max_size.bytes());
            self.has_logged_too_large.store(false, Ordering::Relaxed);
            tokio::task::spawn_blocking(move || disk.resize(max_size));
        }
    }

    /// Returns the tag of the encoding that new files are written in.
    #[must_use]
    pub fn tag(&self) -> &EncodingTag {
        &self.tag
    }

    /// Returns whether a NAR of `size` bytes fits into the cache, however badly it compresses.
    #[must_use]
    pub fn fits(&self, size: u64) -> bool {
        self.disk.fits(size)
    }

    /// Returns whether the NAR of a valid path fits into the cache. Logs the first one that does not.
    #[must_use]
    pub fn fits_nar(&self, valid: &ValidPath) -> bool {
        let fits = self.fits(valid.info.nar_size);
        if !fits && !self.has_logged_too_large.swap(true, Ordering::Relaxed) {
            let path = self.store.directory().full_path(&valid.path);
            let (size, max_size) = (human_size(valid.info.nar_size), human_size(self.disk.max_size()));
            tracing::info!(
                "serving the NAR of {path} ({size}) uncompressed: it may not fit into the NAR cache ({max_size}); others are \
                 not logged"
            );
        }
        fits
    }

    /// Returns hash and size of the compressed NAR if it is in the cache, without disk access.
    #[must_use]
    pub fn file_info(&self, nar_hash: &NarHash) -> Option<FileInfo> {
        self.disk.info(&self.key(nar_hash))
    }

    /// Finds the compressed NAR of a valid path, or starts or joins its fill. Fails if the disk does not answer in time, or
    /// if the NAR does not fit.
    pub async fn get_or_fill(
        self: &Arc<Self>,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<CompressedNar, FillError> {
        self.get_or_fill_from(valid, client, NarSource::Store).await
    }

    /// Finds the compressed NAR of a path, or starts or joins its fill from this source.
    pub(super) async fn get_or_fill_from(
        self: &Arc<Self>,
        valid: &Arc<ValidPath>,
        client: ClientId,
        source: NarSource,
    ) -> Result<CompressedNar, FillError> {
        let key = self.key(&valid.info.nar_hash);
        self.precompress.mark_fetched(&key);
        let source = match self.find_or_fill_from(&key, valid, client, source).await {
            Ok(Joined::Finished(entry)) => Source::Disk(entry),
            Ok(Joined::Running(progress) | Joined::Started(progress)) => Source::Fill(progress),
            Err(error) => {
                self.metrics.nar_cache.record(NarCacheEvent::Bypassed);
                return Err(error);
            }
        };
        Ok(CompressedNar { disk: Arc::clone(&self.disk), key, nar_size: valid.info.nar_size, file_size: None, source })
    }

    /// Finds a compressed NAR that is in the cache, in any encoding, whether or not its path is still valid.
    pub async fn find_existing(&self, tag: &EncodingTag, nar_hash: &NarHash) -> Option<CompressedNar> {
        let key = EntryKey { tag: Arc::new(tag.clone()), nar_hash: *nar_hash };
        let entry = self.find(&key).await.ok()??;
        let nar_size = entry.nar_size();
        let source = Source::Disk(entry);
        Some(CompressedNar { disk: Arc::clone(&self.disk), key, nar_size, file_size: None, source })
    }

    /// Opens the uncompressed NAR from byte `first` on, decoded from its compressed form. `None` if that is not in the cache or
    /// no decoder memory is free. The permit holds the decoder's memory.
    pub async fn open_decoded(&self, nar_hash: &NarHash, first: u64, client: ClientId) -> Option<(PlainNar, Permit)> {
        let key = self.key(nar_hash);
        let entry = self.find(&key).await.ok()??;
        // No window is larger than its frame.
        let window = usize::try_from(entry.nar_size().min(FRAME_SIZE)).ok()?;
        let memory = self.decoders.try_acquire(client, (window + DECODER_OVERHEAD).div_ceil(MIB))?;
        let (disk, read_of, read_key) = (Arc::clone(&self.disk), Arc::clone(&entry), key.clone());
        let read = Box::new(move |at| disk.read(&read_key, &read_of, at));
        let decoder = NarDecoder::new(entry, first, read).ok()?;
        Some((PlainNar::new(decoder, Arc::clone(&self.disk), key), memory))
    }

    /// Returns the semaphore of which each read of a [`PlainNar`] must hold a permit.
    #[must_use]
    pub fn read_permits(&self) -> &Arc<Semaphore> {
        self.disk.threads().permits()
    }

    /// Lists the fills that run or wait for an encoder, in no order.
    #[must_use]
    pub fn active_fills(&self) -> Vec<ActiveFill> {
        self.fills.list()
    }

    /// Returns the limit on the size of all files, in bytes.
    #[must_use]
    pub fn max_size(&self) -> u64 {
        self.disk.max_size()
    }

    /// Returns the directory's path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.disk.dir()
    }

    /// Updates the gauges of files, bytes and fills.
    pub fn update_metrics(&self) {
        let (entries, bytes) = self.disk.usage();
        self.metrics.nar_cache.set_usage(NarCacheUsage { entries, bytes, fills: self.fills.len() });
    }

    /// Queues a NAR whose narinfo `client` was served for precompression, if the configuration wants that.
    pub fn precompress(&self, valid: &Arc<ValidPath>, client: ClientId) {
        let key = self.key(&valid.info.nar_hash);
        let is_wanted = self.mode != config::Precompress::Off && self.disk.info(&key).is_none();
        if is_wanted && self.disk.fits(valid.info.nar_size) {
            self.precompress.push(client, key, valid);
        }
    }

    /// Returns whether NARs of paths that are new in the store are precompressed too.
    #[must_use]
    pub fn precompresses_new(&self) -> bool {
        self.mode == config::Precompress::New
    }

    /// Finds the compressed NAR on disk, or starts or joins its fill, and counts which of these it was.
    pub(super) async fn find_or_fill(
        &self,
        key: &EntryKey,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<Joined, FillError> {
        self.find_or_fill_from(key, valid, client, NarSource::Store).await
    }

    async fn find_or_fill_from(
        &self,
        key: &EntryKey,
        valid: &Arc<ValidPath>,
        client: ClientId,
        source: NarSource,
    ) -> Result<Joined, FillError> {
        let joined = match self.find(key).await? {
            Some(entry) => Joined::Finished(entry),
            None => self.fills.join_or_start(key, valid, client, source)?,
        };
        if client != ClientId::Server {
            self.metrics.nar_cache.record(match &joined {
                Joined::Finished(_) => NarCacheEvent::Hit,
                Joined::Running(_) => NarCacheEvent::Joined,
                Joined::Started(_) => NarCacheEvent::Miss,
            });
        }
        Ok(joined)
    }

    pub(super) async fn find(&self, key: &EntryKey) -> Result<Option<Arc<Entry>>, FillError> {
        if let Ok(found) = self.disk.find_in_memory(key) {
            return Ok(found);
        }
        let (disk, wanted) = (Arc::clone(&self.disk), key.clone());
        let found = self.disk.threads().run(FIND_TIMEOUT, move || disk.find(&wanted)).await;
        found.map_err(|cause| FillError::disk(&cause))
    }

    fn key(&self, nar_hash: &NarHash) -> EntryKey {
        EntryKey { tag: Arc::clone(&self.tag), nar_hash: *nar_hash }
    }
}

fn scan(disk: &DiskCache, max_size: u64, is_server: bool) {
    // Not run on the disk's threads: it may take long without the disk being stalled.
    match disk.scan() {
        Ok(()) => {
            let (entries, bytes) = disk.usage();
            if is_server {
                tracing::info!(
                    "opened the NAR cache in {} ({entries} files, {})",
                    disk.dir().display(),
                    human_size(bytes)
                );
            }
            if let Ok(Some(shortage)) = free_space::shortage(disk.dir(), max_size, bytes) {
                tracing::warn!("{shortage}");
            }
        }
        Err(cause) => tracing::error!("cannot scan the NAR cache in {}: {cause}", disk.dir().display()),
    }
}
