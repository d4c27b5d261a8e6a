//! What the daemon said about paths, kept in memory for as long as it is known to hold.
//!
//! Owns when an answer may be used again, and that one question is asked for all who wait for it. `ahead` asks
//! about references before clients do, `batch` about many paths at once. Leaves how a path looks to `sighting`, how many wait for one question to `flights`,
//! the connections to `pool`, and what is made of an answer to others.
//!
//! - An answer is used while the path looks as it did *before* the daemon was asked, and is younger than `ttl`. The
//!   second is all there is where the store is not visible here; where it is, it is for what no file shows: signatures.
//! - That a path is not valid is never kept, and wins over whatever is.
//! - While the daemon does not answer, what it said about a path that is visible and still there is used whatever its
//!   age. A path is valid until it is deleted, which shows.
//! - Errors are shared by those who waited for the question, and not kept.

#[cfg(test)]
mod tests;

use crate::sync::Mutex;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::{HashPart, StorePath};
use tokio::time::{Instant, timeout};

use crate::clock_cache::ClockCache;
use crate::fairness::ClientId;
use crate::metrics::{Lookup, Metrics};
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::path_info::entry::{Answer, Entry, Freshness};
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::prefetch_queue::PrefetchQueue;
use crate::store::path_info::single_flight::SingleFlight;
use crate::store::path_info::valid_path::{SignatureLines, ValidPath};

/// How long a client waits for a new answer where an old one would do.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// How long old answers are used without asking once the daemon has not answered: it is not asked by every request then,
/// each of which would wait.
const BACKOFF: Duration = Duration::from_secs(10);
/// Known paths that are looked at before others have their turn: a tenth of a millisecond.
pub(crate) const SCAN_STEP: usize = 1024;
/// What is known of the paths of one daemon.
#[derive(Debug)]
pub(crate) struct PathInfoCache {
    pub(crate) pool: Arc<Pool>,
    pub(crate) real_directory: Arc<Path>,
    /// In milliseconds.
    pub(crate) ttl: AtomicU64,
    pub(crate) entries: Mutex<ClockCache<HashPart, Entry>>,
    pub(crate) single_flight: Arc<SingleFlight<HashPart, Answer>>,
    pub(crate) prefetch_queue: PrefetchQueue,
    /// Until when nothing is asked where an old answer would do; something since the daemon last did not answer.
    pub(crate) backoff: Mutex<Option<Instant>>,
    /// Held by whoever looks through all that is known.
    pub(crate) scanning: Mutex<()>,
    pub(crate) metrics: Arc<Metrics>,
}

impl PathInfoCache {
    /// Knows nothing yet. What it keeps is no more than `max_bytes` and used for `ttl`.
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
            metrics,
        })
    }

    /// The valid path that has this hash part; `None` if the daemon says that there is none. Dropping the future takes
    /// nothing from others who wait for the same.
    pub(crate) async fn valid_path(self: &Arc<Self>, hash: HashPart, client: ClientId) -> Answer {
        let known = self.entries().find(&hash).cloned();
        let freshness = known.map(|known| (self.freshness(&known), known.valid));
        match freshness {
            Some((Freshness::Fresh, valid)) => {
                self.metrics.narinfo_cache.record_lookup(Lookup::Hit);
                Ok(Some(valid))
            }
            Some((Freshness::Stale, valid)) => self.refresh(hash, valid, client).await,
            Some((Freshness::Changed, valid)) => self.ask(hash, Some(valid), client).await,
            None => self.ask(hash, None, client).await,
        }
    }

    /// Takes note of why a NAR failed. If that may be because it is not what its info says, or not valid any more, the
    /// daemon is to be asked again; not if there is no daemon.
    pub(crate) fn mark_stale(&self, hash: HashPart, why: &StoreError) {
        if why.is_unavailable() {
            return;
        }
        if let Some(known) = self.entries().find(&hash) {
            known.asked = None;
        }
    }

    /// The daemon has said that a path is not valid.
    pub(crate) fn forget(&self, path: &StorePath) {
        self.entries().remove(&path.hash_part());
    }

    /// The base name of the path with this hash part, if that is known; no use of what is known.
    pub(crate) fn cached_name(&self, hash: HashPart) -> Option<String> {
        self.entries().peek(&hash).map(|known| known.valid.path.base_name().to_string())
    }

    /// Keeps what has been made of a path with it, which then takes more of the memory.
    pub(crate) fn cache_signature_lines(&self, valid: &ValidPath, by: &Arc<()>, signed: SignatureLines) {
        let hash = valid.path.hash_part();
        let mut known = self.entries();
        valid.set_signature_lines(by, signed);
        self.metrics.narinfo_cache.record_signed();
        if known.peek(&hash).is_some_and(|known| std::ptr::eq(&raw const *known.valid, valid)) {
            known.reweigh(&hash, valid.weight());
        }
    }

    /// How many paths are known, and the lengths of their NARs together in bytes. Looks at a few at a time, as
    /// [`Self::with_nar`] does.
    pub(crate) async fn sizes(&self) -> (usize, u64) {
        let (mut paths, mut bytes, mut end) = (0, 0_u64, usize::MAX);
        while end > 0 {
            {
                let known = self.entries();
                let (values, first) = known.before(end, SCAN_STEP);
                end = first;
                for known in values {
                    paths += 1;
                    bytes = bytes.saturating_add(known.valid.info.nar_size);
                }
            }
            tokio::task::yield_now().await;
        }
        (paths, bytes)
    }

    /// The path that has this hash part, by what the daemon said last, if that is kept.
    pub(crate) fn cached_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.entries().peek(&hash).map(|known| Arc::clone(&known.valid))
    }

    /// Enters how much is known.
    pub(crate) fn record(&self) {
        let known = self.entries();
        self.metrics.narinfo_cache.set_size(known.len(), known.bytes());
    }

    /// One system call, on the thread of the request: a path that is served has its inode in memory, so that it takes a
    /// microsecond, less than handing it to another thread would.
    pub(crate) fn freshness(&self, known: &Entry) -> Freshness {
        let stamp = PathStamp::read(&self.real_directory, &known.valid.path);
        if stamp != known.stamp {
            Freshness::Changed
        } else if self.is_within_ttl(known) {
            Freshness::Fresh
        } else if stamp.is_some() {
            Freshness::Stale
        } else {
            Freshness::Changed
        }
    }

    /// Uses answers for so long from now on, also those that are known.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.ttl.store(milliseconds(ttl), Ordering::Relaxed);
    }

    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl.load(Ordering::Relaxed))
    }

    pub(crate) fn is_within_ttl(&self, known: &Entry) -> bool {
        known.asked.is_some_and(|asked| asked.elapsed() < self.ttl())
    }

    /// A new answer in place of an old one, or that if there is no new one.
    async fn refresh(self: &Arc<Self>, hash: HashPart, old: Arc<ValidPath>, client: ClientId) -> Answer {
        if !self.is_backing_off() {
            match timeout(STALE_AFTER, self.ask(hash, Some(Arc::clone(&old)), client)).await {
                Ok(Ok(answer)) => {
                    *self.backoff.lock() = None;
                    return Ok(answer);
                }
                Ok(Err(error)) if error.is_unavailable() => self.back_off(&error),
                // Of this path only; others are still worth asking about. The metrics count it.
                Ok(Err(error)) => tracing::debug!(path = %old.path, "the path info in use stays: {error}"),
                Err(_) => self.back_off(&format_args!("the nix daemon does not answer within {STALE_AFTER:?}")),
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
            tracing::warn!("what is known of paths that are still there is used until the nix daemon answers: {why}");
        }
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, ClockCache<HashPart, Entry>> {
        self.entries.lock()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
