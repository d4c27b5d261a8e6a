//! Narinfos of the bucket in memory, and what was not there a moment ago.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use super::breaker::Breaker;
use super::told::{TOLD, Told};
use super::unreachable::Unreachable;
use crate::bucket::narinfo::BucketNarInfo;
use crate::clock_cache::ClockCache;
use crate::fairness::FairSemaphore;
use crate::metrics::Metrics;
use crate::store::SingleFlight;
use crate::sync::{LogThrottle, Mutex};

/// Upper bound of the memory of narinfos, in bytes: some ten thousand.
const MAX_BYTES: usize = 32 << 20;
/// Upper bound of that of paths that were not there, in bytes.
const MAX_ABSENT_BYTES: usize = 1 << 20;
/// Time for which a narinfo is used without asking again. Its path never changes; signatures are added, and garbage is removed
/// with a month's notice.
const FRESH: Duration = Duration::from_secs(600);
/// Time for which a path that was not there is not asked for again. What another host publishes is found within five seconds.
const ABSENT: Duration = Duration::from_secs(3);
/// Requests for clients at a time.
const REQUESTS: usize = 16;

/// A path of the bucket: its narinfo, `None` if there is none that can be used, or why that is not known.
pub(super) type Fetched = Result<Option<Arc<BucketNarInfo>>, Unreachable>;

/// Narinfos that were read from the bucket.
#[derive(Debug)]
pub(in crate::bucket) struct NarInfos {
    cached: Mutex<ClockCache<HashPart, Cached>>,
    absent: Mutex<ClockCache<HashPart, Instant>>,
    pub(super) flights: Arc<SingleFlight<HashPart, Fetched>>,
    pub(super) told: Told,
    pub(super) breaker: Breaker,
    pub(super) requests: FairSemaphore,
    /// Of objects that cannot be used.
    pub(super) rejected: LogThrottle<()>,
}

#[derive(Debug)]
struct Cached {
    narinfo: Arc<BucketNarInfo>,
    read: Instant,
    /// When clients were last told of its references.
    told: Option<Instant>,
}

impl NarInfos {
    pub(in crate::bucket) fn new(metrics: &Metrics) -> Self {
        Self {
            cached: Mutex::new(ClockCache::new(MAX_BYTES)),
            absent: Mutex::new(ClockCache::new(MAX_ABSENT_BYTES)),
            flights: SingleFlight::new(),
            told: Told::new(),
            breaker: Breaker::default(),
            requests: FairSemaphore::new("bucket lookups", REQUESTS, metrics),
            rejected: LogThrottle::default(),
        }
    }

    /// Returns a narinfo that was read before, and whether it is fresh.
    pub(super) fn find(&self, path: &HashPart) -> Option<(Arc<BucketNarInfo>, bool)> {
        let mut cached = self.cached.lock();
        cached.find(path).map(|it| (Arc::clone(&it.narinfo), it.read.elapsed() <= FRESH))
    }

    /// Returns whether a path was not there a moment ago.
    pub(super) fn is_absent(&self, path: &HashPart) -> bool {
        self.absent.lock().peek(path).is_some_and(|since| since.elapsed() <= ABSENT)
    }

    /// Remembers a narinfo that was read just now.
    pub(super) fn insert(&self, narinfo: &Arc<BucketNarInfo>) {
        let cached = Cached { narinfo: Arc::clone(narinfo), read: Instant::now(), told: None };
        self.cached.lock().insert(narinfo.path().hash_part(), cached, narinfo.memory());
    }

    /// Remembers that a path was not there. Its narinfo stays, if it was read before: clients may know of it.
    pub(super) fn insert_absent(&self, path: HashPart) {
        self.absent.lock().insert(path, Instant::now(), 0);
    }

    /// Forgets a narinfo.
    pub(super) fn forget(&self, path: &HashPart) {
        self.cached.lock().remove(path);
    }

    /// Remembers that a client is told of a path and its references.
    pub(super) fn tell(&self, narinfo: &BucketNarInfo) {
        let path = narinfo.path().hash_part();
        if let Some(cached) = self.cached.lock().find(&path) {
            // Not for each request: there may be thousands of references.
            if cached.told.is_some_and(|told| told.elapsed() <= TOLD / 8) {
                return;
            }
            cached.told = Some(Instant::now());
        }
        self.told.insert(narinfo.references().chain([path]));
    }

    /// Lets entries age by more than any time that they are good for.
    #[cfg(test)]
    pub(super) fn age(&self) {
        let Some(long_ago) = Instant::now().checked_sub(TOLD.max(FRESH)) else { return };
        let mut cached = self.cached.lock();
        let paths: Vec<_> = cached.before(usize::MAX, usize::MAX).0.map(|it| it.narinfo.path().hash_part()).collect();
        for path in paths {
            if let Some(cached) = cached.find(&path) {
                (cached.read, cached.told) = (long_ago, None);
            }
        }
        *self.absent.lock() = ClockCache::new(MAX_ABSENT_BYTES);
    }
    /// Returns whether clients were told of the references of a path since [`Self::age`].
    #[cfg(test)]
    pub(super) fn is_told_again(&self, path: &HashPart) -> bool {
        self.cached.lock().peek(path).is_some_and(|it| it.told.is_some())
    }

    /// Forgets what clients were told of.
    #[cfg(test)]
    pub(super) fn forget_told(&self) {
        self.told.clear();
    }
}
