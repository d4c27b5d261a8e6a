//! Paths whose content has turned out to be wrong: nobody is told of them until a dump proves them good again.
//!
//! Owns which paths these are and when they are looked at again. A path is held back by proof alone: the daemon called it
//! valid, and its NAR had another size, another hash or no structure, or there was nothing at its place to make a NAR of.
//! A daemon that is late, gone or refuses proves nothing. What proves a path good is its whole NAR; whoever asks meanwhile
//! is answered as if the path were not valid, and goes to another cache or builds.
//!
//! Some proofs are only as good as the place where they were found: a daemon's word that files are not there may be about
//! a path that has just been deleted, and files that are visible here may be those of another store
//! ([`NarSource::Auto`](crate::config::NarSource)). Such a path is doubted, not held back, until the daemon has failed to dump it as well. A
//! doubted path is read from the daemon.
//!
//! Held back is what the daemon said of the path. If that changes, because the path is not valid any more or has another
//! hash, there is nothing to hold back. A path is looked at again at once, since what was wrong may have passed, and then
//! after growing pauses. One that looks otherwise than before has perhaps been repaired: it is looked at as soon as
//! somebody asks for it.

#[cfg(test)]
mod tests;

use crate::sync::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::store::error::StoreError;
use crate::store::nar::expected::ExpectedNar;
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::valid_path::ValidPath;

/// How long after its second failure a path is looked at again; doubled each time up to the last.
pub(crate) const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);
/// Beyond, a damaged store's paths are found out one request at a time, each of whose NARs still breaks off.
pub(crate) const MAX_PATHS: usize = 4096;

/// Where bytes came from that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The daemon's dump.
    Daemon,
    /// The store's files, which are known to be those of the daemon's store.
    Files,
    /// The store's files, as far as is known.
    UnconfirmedFiles,
    /// Files of which it is being found out whose they are.
    ComparedFiles,
}

/// The paths of one store that are held back or doubted.
#[derive(Debug)]
pub(crate) struct Quarantine {
    pub(crate) real_directory: Arc<Path>,
    pub(crate) paths: Mutex<HashMap<HashPart, Entry>>,
    /// Claim that is being looked at again: if it leaves `paths` meanwhile, the daemon has said something else.
    pub(crate) rechecking: Mutex<Option<ExpectedNar>>,
    /// How many there are, so that a request costs no lock while there are none.
    pub(crate) count: AtomicUsize,
    /// A path is due sooner than was thought.
    pub(crate) changed: Notify,
    pub(crate) metrics: Arc<Metrics>,
}

/// A path that is held back or doubted.
#[derive(Debug, Clone)]
pub struct QuarantinedPath {
    /// The path.
    pub path: StorePath,
    /// Whether nobody is told of it; otherwise it is only doubted, and is being looked at.
    pub is_quarantined: bool,
    /// The fault that its NAR was last seen to have.
    pub why: StoreError,
    /// Time since a fault was first seen.
    pub lasted: Duration,
    /// In what time it is looked at again.
    pub due_in: Duration,
}

#[derive(Debug)]
pub(crate) struct Entry {
    expected: ExpectedNar,
    /// Whether nobody is told of it; otherwise it is only doubted.
    is_quarantined: bool,
    origin: Origin,
    why: StoreError,
    began: Instant,
    /// As it looked when it failed last.
    seen: Option<PathStamp>,
    backoff: Duration,
    due: Instant,
}

impl Entry {
    fn quarantine(&mut self, why: &StoreError) {
        self.why = why.clone();
        if !self.is_quarantined {
            self.is_quarantined = true;
            tracing::error!("{} is held back, 404 until its nar is right: {why}", self.expected.path);
        }
    }
}

/// What another look at a path has shown.
pub(crate) enum RecheckResult {
    /// Its NAR is what the daemon says.
    Verified,
    /// It is not.
    Mismatch(StoreError),
    /// The daemon does not say that any more.
    Obsolete,
    /// There was no NAR to look at.
    Failed(StoreError),
}

impl Quarantine {
    /// None yet, of the paths in this directory.
    pub(crate) fn new(real_directory: &Path, metrics: &Arc<Metrics>) -> Self {
        Self {
            real_directory: real_directory.into(),
            paths: Mutex::default(),
            rechecking: Mutex::default(),
            count: AtomicUsize::new(0),
            changed: Notify::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes note of why a NAR failed, and holds its path back or doubts it if that is a proof against it.
    pub(crate) fn report(&self, expected: &ExpectedNar, why: &StoreError, origin: Origin) {
        if !why.is_mismatch() || origin == Origin::ComparedFiles {
            return;
        }
        let is_enough = origin != Origin::UnconfirmedFiles && !matches!(why, StoreError::NoFiles { .. });
        let mut paths = self.paths();
        let hash = expected.path.hash_part();
        let is_full = paths.len() >= MAX_PATHS;
        match paths.get_mut(&hash).filter(|entry| entry.expected == *expected) {
            Some(entry) if is_enough => entry.quarantine(why),
            Some(_) => {}
            None if is_full || self.rechecking().as_ref() == Some(expected) => {}
            None => {
                let seen = PathStamp::read(&self.real_directory, &expected.path);
                let (expected, why_first, now) = (expected.clone(), why.clone(), Instant::now());
                let (backoff, due, began) = (Duration::ZERO, now, now);
                let mut entry =
                    Entry { expected, is_quarantined: false, origin, why: why_first, began, seen, backoff, due };
                if is_enough {
                    entry.quarantine(why);
                } else {
                    tracing::debug!("{} is doubted: {why}", entry.expected.path);
                }
                paths.insert(hash, entry);
                self.changed.notify_one();
            }
        }
        self.update_count(&paths);
    }

    /// Whether nobody is to be told of this path.
    pub(crate) fn contains(&self, valid: &ValidPath) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut paths = self.paths();
        let hash = valid.path.hash_part();
        let Some(entry) = paths.get_mut(&hash) else { return false };
        if entry.expected != ExpectedNar::from_valid_path(valid) {
            paths.remove(&hash);
            self.update_count(&paths);
            return false;
        }
        let is_due = entry.due <= Instant::now();
        if !is_due && PathStamp::read(&self.real_directory, &valid.path) != entry.seen {
            entry.due = Instant::now();
            self.changed.notify_one();
        }
        entry.is_quarantined
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<QuarantinedPath> {
        let now = Instant::now();
        let path = |entry: &Entry| QuarantinedPath {
            path: entry.expected.path.clone(),
            is_quarantined: entry.is_quarantined,
            why: entry.why.clone(),
            lasted: now.saturating_duration_since(entry.began),
            due_in: entry.due.saturating_duration_since(now),
        };
        self.paths().values().map(path).collect()
    }

    /// Whether this is held back or doubted.
    pub(crate) fn is_suspected(&self, expected: &ExpectedNar) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.paths().get(&expected.path.hash_part()).is_some_and(|entry| entry.expected == *expected)
    }

    /// The path that is due first.
    pub(crate) fn next(&self) -> Option<(Instant, ExpectedNar)> {
        let paths = self.paths();
        let next = paths.values().min_by_key(|entry| entry.due)?;
        Some((next.due, next.expected.clone()))
    }

    /// Takes note of what a look has shown, before which the path looked like `seen`. The result is whether the files are to
    /// blame: they were wrong, and are as they were, while the daemon's dump is right.
    pub(crate) fn record(&self, expected: &ExpectedNar, seen: Option<PathStamp>, result: &RecheckResult) -> bool {
        let mut paths = self.paths();
        let hash = expected.path.hash_part();
        let Some(entry) = paths.get_mut(&hash).filter(|entry| entry.expected == *expected) else { return false };
        let is_same = PathStamp::read(&self.real_directory, &expected.path) == seen;
        let freed = match result {
            RecheckResult::Verified => Some("its nar is right"),
            RecheckResult::Obsolete => Some("it is not valid, or another"),
            RecheckResult::Mismatch(why) => {
                entry.quarantine(why);
                None
            }
            RecheckResult::Failed(why) => {
                tracing::debug!("{} could not be looked at: {why}", expected.path);
                None
            }
        };
        if let Some(why) = freed {
            if entry.is_quarantined {
                tracing::info!("{} is not held back any more: {why}", expected.path);
            }
            let by_files = entry.origin == Origin::UnconfirmedFiles && entry.seen == seen && is_same;
            paths.remove(&hash);
            self.update_count(&paths);
            return by_files && seen.is_some() && matches!(result, RecheckResult::Verified);
        }
        entry.due = Instant::now();
        // Repaired during the look, perhaps: whoever asked meanwhile only saw that one was under way.
        if is_same {
            entry.due += entry.backoff.max(MIN_BACKOFF);
            if matches!(result, RecheckResult::Mismatch(_)) {
                entry.backoff = (entry.backoff.max(MIN_BACKOFF) * 2).min(MAX_BACKOFF);
                entry.seen = seen;
            }
        }
        self.update_count(&paths);
        false
    }

    fn update_count(&self, paths: &HashMap<HashPart, Entry>) {
        self.count.store(paths.len(), Ordering::Relaxed);
        self.metrics.set_quarantined_paths(paths.values().filter(|entry| entry.is_quarantined).count());
    }

    pub(crate) fn rechecking(&self) -> MutexGuard<'_, Option<ExpectedNar>> {
        self.rechecking.lock()
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<HashPart, Entry>> {
        self.paths.lock()
    }
}
