//! Quarantine of paths whose NAR does not match its path info: they are not served until their NAR passes verification.
//!
//! A path is quarantined only for a mismatch: nix-daemon called it valid, and its NAR had another size or hash, was
//! malformed, or had no files. Timeouts and refusals do not count. Meanwhile clients are answered as if the path were
//! not valid, so that they use another cache or build. Reading the whole NAR without a mismatch ends the quarantine.
//!
//! Some mismatches need confirmation: missing files may be those of a path that is just being deleted, and visible
//! files may belong to another store ([`NarSource::Auto`](crate::config::NarSource)). Such a path is only suspected,
//! and dumped by nix-daemon, until that fails too.
//!
//! An entry is about one path info, and is dropped when nix-daemon reports another. A path is rechecked at once, and
//! then with exponential backoff. If its stamp has changed it may have been repaired, and is rechecked as soon as
//! somebody requests it.

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

/// Backoff after the second failure, doubled each time up to [`MAX_BACKOFF`].
pub(crate) const MIN_BACKOFF: Duration = Duration::from_secs(1);
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);
/// Maximal number of entries. Beyond, the NAR of a corrupt path still fails, but its narinfo is served.
pub(crate) const MAX_PATHS: usize = 4096;

/// Source of a NAR that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// nix-daemon's dump.
    Daemon,
    /// The store's files, which are configured to be those of nix-daemon's store.
    Files,
    /// The store's files with `nar_source = "auto"`, which may belong to another store.
    UnconfirmedFiles,
    /// Files that were read to find out whose they are.
    ComparedFiles,
}

/// Quarantined and suspected paths of one store.
#[derive(Debug)]
pub(crate) struct Quarantine {
    pub(crate) real_directory: Arc<Path>,
    pub(crate) paths: Mutex<HashMap<HashPart, Entry>>,
    /// NAR that is being rechecked. If it is removed from `paths` meanwhile, its path info has changed.
    pub(crate) rechecking: Mutex<Option<ExpectedNar>>,
    /// Number of entries, so that requests take no lock while there are none.
    pub(crate) count: AtomicUsize,
    /// Notified when an entry is due sooner.
    pub(crate) changed: Notify,
    pub(crate) metrics: Arc<Metrics>,
}

/// A quarantined or suspected path.
#[derive(Debug, Clone)]
pub struct QuarantinedPath {
    /// Store path.
    pub path: StorePath,
    /// Whether it is quarantined; otherwise it is suspected and being rechecked.
    pub is_quarantined: bool,
    /// Last error of its NAR.
    pub why: StoreError,
    /// Time since the first error.
    pub lasted: Duration,
    /// Time until the next recheck.
    pub due_in: Duration,
}

#[derive(Debug)]
pub(crate) struct Entry {
    expected: ExpectedNar,
    /// Whether it is quarantined; otherwise it is suspected.
    is_quarantined: bool,
    origin: Origin,
    why: StoreError,
    began: Instant,
    /// Stamp at the last failure.
    stamp: Option<PathStamp>,
    backoff: Duration,
    due: Instant,
}

impl Entry {
    fn quarantine(&mut self, why: &StoreError) {
        self.why = why.clone();
        if !self.is_quarantined {
            self.is_quarantined = true;
            tracing::error!("quarantined {} (answering 404): {why}", self.expected.path);
        }
    }
}

/// Result of a recheck.
pub(crate) enum RecheckResult {
    /// The NAR matches.
    Verified,
    /// The NAR does not match.
    Mismatch(StoreError),
    /// nix-daemon reports another path info, or none.
    Obsolete,
    /// The NAR could not be read.
    Failed(StoreError),
}

impl Quarantine {
    /// Creates an empty quarantine for the paths in this directory.
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

    /// Reports an error of a NAR. Quarantines or suspects its path if the error is a mismatch.
    pub(crate) fn report(&self, expected: &ExpectedNar, why: &StoreError, origin: Origin) {
        if !why.is_mismatch() || origin == Origin::ComparedFiles {
            return;
        }
        let is_confirmed = origin != Origin::UnconfirmedFiles && !matches!(why, StoreError::NoFiles { .. });
        let mut paths = self.paths();
        let hash = expected.path.hash_part();
        let is_full = paths.len() >= MAX_PATHS;
        match paths.get_mut(&hash).filter(|entry| entry.expected == *expected) {
            Some(entry) if is_confirmed => entry.quarantine(why),
            Some(_) => {}
            None if is_full || self.rechecking().as_ref() == Some(expected) => {}
            None => {
                let stamp = PathStamp::read(&self.real_directory, &expected.path);
                let (expected, why_first, now) = (expected.clone(), why.clone(), Instant::now());
                let (backoff, due, began) = (Duration::ZERO, now, now);
                let mut entry =
                    Entry { expected, is_quarantined: false, origin, why: why_first, began, stamp, backoff, due };
                if is_confirmed {
                    entry.quarantine(why);
                } else {
                    tracing::debug!("{} is suspected: {why}", entry.expected.path);
                }
                paths.insert(hash, entry);
                self.changed.notify_one();
            }
        }
        self.update_count(&paths);
    }

    /// Returns whether this path is quarantined.
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
        if !is_due && PathStamp::read(&self.real_directory, &valid.path) != entry.stamp {
            entry.due = Instant::now();
            self.changed.notify_one();
        }
        entry.is_quarantined
    }

    /// Returns all entries, unordered.
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

    /// Returns whether this NAR is quarantined or suspected.
    pub(crate) fn is_suspected(&self, expected: &ExpectedNar) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.paths().get(&expected.path.hash_part()).is_some_and(|entry| entry.expected == *expected)
    }

    /// Returns the entry that is due first.
    pub(crate) fn next(&self) -> Option<(Instant, ExpectedNar)> {
        let paths = self.paths();
        let next = paths.values().min_by_key(|entry| entry.due)?;
        Some((next.due, next.expected.clone()))
    }

    /// Records the result of a recheck, before which the path had the stamp `stamp`. Returns whether the visible files
    /// belong to another store: they did not match and have not changed, while nix-daemon's dump matches.
    pub(crate) fn record(&self, expected: &ExpectedNar, stamp: Option<PathStamp>, result: &RecheckResult) -> bool {
        let mut paths = self.paths();
        let hash = expected.path.hash_part();
        let Some(entry) = paths.get_mut(&hash).filter(|entry| entry.expected == *expected) else { return false };
        let is_same = PathStamp::read(&self.real_directory, &expected.path) == stamp;
        let release = match result {
            RecheckResult::Verified => Some("its NAR was verified"),
            RecheckResult::Obsolete => Some("its path info changed"),
            RecheckResult::Mismatch(why) => {
                entry.quarantine(why);
                None
            }
            RecheckResult::Failed(why) => {
                tracing::debug!("cannot recheck {}: {why}", expected.path);
                None
            }
        };
        if let Some(why) = release {
            if entry.is_quarantined {
                tracing::info!("released {} from quarantine: {why}", expected.path);
            }
            let by_files = entry.origin == Origin::UnconfirmedFiles && entry.stamp == stamp && is_same;
            paths.remove(&hash);
            self.update_count(&paths);
            return by_files && stamp.is_some() && matches!(result, RecheckResult::Verified);
        }
        entry.due = Instant::now();
        // If the stamp changed during the recheck, the path may have been repaired: it is due at once.
        if is_same {
            entry.due += entry.backoff.max(MIN_BACKOFF);
            if matches!(result, RecheckResult::Mismatch(_)) {
                entry.backoff = (entry.backoff.max(MIN_BACKOFF) * 2).min(MAX_BACKOFF);
                entry.stamp = stamp;
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
