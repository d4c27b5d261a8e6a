//! Cache of path infos, each used for as long as it is known to hold.
//!
//! `query` queries nix-daemon about one path and `batch` about many; `prefetch` does so for references before clients
//! request them.
//!
//! - An entry is fresh while its path has the stamp that it had *before* the query, and is younger than `ttl`. Where
//!   the store is not visible, only the age counts; where it is, the age limits changes that no file shows, such as
//!   signatures.
//! - Negative replies are never cached (but see `store_names`), and remove the entry.
//! - While nix-daemon does not respond, stale entries of paths that still exist are served. A path is valid until it is
//!   deleted, which changes its stamp.
//! - Errors are returned to all clients that wait for the query, and never cached.

#[cfg(test)]
mod tests;

use crate::sync::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock, RwLock};
use std::time::Duration;

use harmonia_protocol::{HashPart, StorePath};
use tokio::time::{Instant, timeout};

use crate::clock_cache::ClockCache;
use crate::fairness::ClientId;
use crate::metrics::{Lookup, Metrics};
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::path_info::entry::{Entry, Freshness, LookupResult};
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::prefetch_queue::PrefetchQueue;
use crate::store::path_info::single_flight::SingleFlight;
use crate::store::path_info::store_names::StoreNames;
use crate::store::path_info::valid_path::{SignatureLines, ValidPath};
use crate::store::views::path_table::PathTable;

/// Time that a client waits for nix-daemon before a stale entry is served.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// Time for which stale entries are served without a query, once nix-daemon has not responded.
const BACKOFF: Duration = Duration::from_secs(10);
/// Entries that a scan visits before it releases the lock, which takes a tenth of a millisecond.
pub(crate) const SCAN_STEP: usize = 1024;

/// Path infos of the valid paths of one store.
#[derive(Debug)]
pub(crate) struct PathInfoCache {
    pub(crate) pool: Arc<Pool>,
    pub(crate) real_directory: Arc<Path>,
    /// Time to live, in milliseconds.
    pub(crate) ttl: AtomicU64,
    pub(crate) entries: Mutex<ClockCache<HashPart, Entry>>,
    pub(crate) single_flight: Arc<SingleFlight<HashPart, LookupResult>>,
    pub(crate) prefetch_queue: PrefetchQueue,
    /// Time until which stale entries are served without a query; `None` unless the last refresh failed.
    pub(crate) backoff: Mutex<Option<Instant>>,
    /// Locked by a scan of all entries.
    pub(crate) scanning: Mutex<()>,
    /// Paths of views, whose references are corrected by what nix-daemon replies.
    pub(crate) viewed: Arc<RwLock<PathTable>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Names in the store directory, where most requests are for what has none there.
    pub(crate) names: OnceLock<Arc<StoreNames>>,
}

impl PathInfoCache {
    /// Creates an empty cache of at most `max_bytes`, whose entries are fresh for `ttl`.
    pub(crate) fn new(
        pool: Arc<Pool>,
        real_directory: &Path,
        max_bytes: usize,
        ttl: Duration,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            pool,
            real_directory: real_directory.into(),
            ttl: AtomicU64::new(milliseconds(ttl)),
            entries: Mutex::new(ClockCache::new(max_bytes)),
            single_flight: SingleFlight::new(),
            prefetch_queue: PrefetchQueue::new(max_bytes),
            backoff: Mutex::default(),
            scanning: Mutex::default(),
            viewed: Arc::default(),
            metrics,
            names: OnceLock::new(),
        })
    }

    /// Answers for paths that have no name in the visible store directory without a query from now on.
    pub(crate) fn know_names(&self) {
        self.names.get_or_init(|| StoreNames::new(&self.real_directory));
    }

    /// Returns the valid path that has this hash part, or `None` if nix-daemon says that there is none. Dropping the
    /// future does not affect others that wait for the same path.
    pub(crate) async fn valid_path(self: &Arc<Self>, hash: HashPart, client: ClientId) -> LookupResult {
        let entry = self.entries().find(&hash).cloned();
        match entry.map(|entry| (self.freshness(&entry), entry.valid)) {
            Some((Freshness::Fresh, valid)) => {
                self.metrics.narinfo_cache.record_lookup(Lookup::Hit);
                Ok(Some(valid))
            }
            Some((Freshness::Stale, valid)) => self.refresh(hash, valid, client).await,
            Some((Freshness::Changed, valid)) => self.query(hash, Some(valid), client).await,
            None => self.query(hash, None, client).await,
        }
    }

    /// Marks an entry stale because reading its NAR failed, unless nix-daemon was unavailable.
    pub(crate) fn mark_stale(&self, hash: HashPart, why: &StoreError) {
        if why.is_unavailable() {
            return;
        }
        if let Some(entry) = self.entries().find(&hash) {
            entry.queried_at = None;
        }
    }

    /// Removes the entry of a path that is no longer valid.
    pub(crate) fn forget(&self, path: &StorePath) {
        self.entries().remove(&path.hash_part());
    }

    /// Returns the base name of a cached path, without counting as a use of the entry.
    pub(crate) fn cached_name(&self, hash: HashPart) -> Option<String> {
        self.entries().peek(&hash).map(|entry| entry.valid.path.base_name().to_string())
    }

    /// Stores our signatures with a cached path, whose size grows by them.
    pub(crate) fn cache_signature_lines(&self, valid: &ValidPath, by: &Arc<()>, signed: SignatureLines) {
        let hash = valid.path.hash_part();
        let mut entries = self.entries();
        valid.set_signature_lines(by, signed);
        self.metrics.narinfo_cache.record_signed();
        if entries.peek(&hash).is_some_and(|entry| std::ptr::eq(&raw const *entry.valid, valid)) {
            entries.reweigh(&hash, valid.weight());
        }
    }

    /// Returns the number of cached paths, and the total size of their NARs in bytes. Yields between steps.
    pub(crate) async fn sizes(&self) -> (usize, u64) {
        let (mut paths, mut bytes, mut end) = (0, 0_u64, usize::MAX);
        while end > 0 {
            {
                let entries = self.entries();
                let (values, first) = entries.before(end, SCAN_STEP);
                end = first;
                for entry in values {
                    paths += 1;
                    bytes = bytes.saturating_add(entry.valid.info.nar_size);
                }
            }
            tokio::task::yield_now().await;
        }
        (paths, bytes)
    }

    /// Returns the cached path of this hash part, fresh or not.
    pub(crate) fn cached_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.entries().peek(&hash).map(|entry| Arc::clone(&entry.valid))
    }

    /// Updates the metrics of the cache's size.
    pub(crate) fn record(&self) {
        let entries = self.entries();
        self.metrics.narinfo_cache.set_size(entries.len(), entries.bytes());
    }

    /// Returns whether an entry can be served, by its age and its path's stamp.
    ///
    /// Reads the stamp on the calling thread: the inode of a served path is in memory, so that this takes a
    /// microsecond, less than moving to another thread.
    pub(crate) fn freshness(&self, entry: &Entry) -> Freshness {
        let stamp = PathStamp::read(&self.real_directory, &entry.valid.path);
        if stamp != entry.stamp {
            Freshness::Changed
        } else if self.is_within_ttl(entry) {
            Freshness::Fresh
        } else if stamp.is_some() {
            Freshness::Stale
        } else {
            Freshness::Changed
        }
    }

    /// Changes the time to live of all entries.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.ttl.store(milliseconds(ttl), Ordering::Relaxed);
    }

    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.load(Ordering::Relaxed))
    }

    pub(crate) fn is_within_ttl(&self, entry: &Entry) -> bool {
        entry.queried_at.is_some_and(|queried_at| queried_at.elapsed() < self.ttl())
    }

    /// Queries the path of a stale entry again; returns the entry if nix-daemon does not respond within two seconds.
    async fn refresh(self: &Arc<Self>, hash: HashPart, old: Arc<ValidPath>, client: ClientId) -> LookupResult {
        if !self.is_backing_off() {
            match timeout(STALE_AFTER, self.query(hash, Some(Arc::clone(&old)), client)).await {
                Ok(Ok(valid)) => {
                    *self.backoff.lock() = None;
                    return Ok(valid);
                }
                Ok(Err(error)) if error.is_unavailable() => self.back_off(&error),
                // An error of this path only, which the metrics count; other paths are still queried.
                Ok(Err(error)) => tracing::debug!(path = %old.path, "keeping the cached path info: {error}"),
                Err(_) => self.back_off(&format_args!("no reply within {STALE_AFTER:?}")),
            }
        }
        self.metrics.narinfo_cache.record_lookup(Lookup::Stale);
        Ok(Some(old))
    }

    fn is_backing_off(&self) -> bool {
        self.backoff.lock().is_some_and(|end| Instant::now() < end)
    }

    fn back_off(&self, why: &dyn std::fmt::Display) {
        let before = self.backoff.lock().replace(Instant::now() + BACKOFF);
        if before.is_none() {
            tracing::warn!("nix-daemon does not respond, serving cached path info of paths that still exist: {why}");
        }
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, ClockCache<HashPart, Entry>> {
        self.entries.lock()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
