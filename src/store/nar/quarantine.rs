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
use crate::store::nar::expected::Claim;
use crate::store::path_info::path_stamp::Sighting;
use crate::store::path_info::valid_path::ValidPath;

/// How long after its second failure a path is looked at again; doubled each time up to the last.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const LAST_PAUSE: Duration = Duration::from_secs(60 * 60);
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
    FilesInDoubt,
    /// Files of which it is being found out whose they are.
    FilesCompared,
}

/// The paths of one store that are held back or doubted.
#[derive(Debug)]
pub(crate) struct HeldBack {
    pub(crate) real_directory: Arc<Path>,
    pub(crate) paths: Mutex<HashMap<HashPart, Suspect>>,
    /// Claim that is being looked at again: if it leaves `paths` meanwhile, the daemon has said something else.
    pub(crate) looked_at: Mutex<Option<Claim>>,
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
pub(crate) struct Suspect {
    claim: Claim,
    /// Whether nobody is told of it; otherwise it is only doubted.
    is_quarantined: bool,
    origin: Origin,
    why: StoreError,
    began: Instant,
    /// As it looked when it failed last.
    seen: Option<Sighting>,
    pause: Duration,
    due: Instant,
}

impl Suspect {
    fn hold(&mut self, why: &StoreError) {
        self.why = why.clone();
        if !self.is_quarantined {
            self.is_quarantined = true;
            tracing::error!("{} is held back, 404 until its nar is right: {why}", self.claim.path);
        }
    }
}

/// What another look at a path has shown.
pub(crate) enum Verdict {
    /// Its NAR is what the daemon says.
    Good,
    /// It is not.
    Wrong(StoreError),
    /// The daemon does not say that any more.
    Void,
    /// There was no NAR to look at.
    Unknown(StoreError),
}

impl HeldBack {
    /// None yet, of the paths in this directory.
    pub(crate) fn new(real_directory: &Path, metrics: &Arc<Metrics>) -> Self {
        Self {
            real_directory: real_directory.into(),
            paths: Mutex::default(),
            looked_at: Mutex::default(),
            count: AtomicUsize::new(0),
            changed: Notify::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes note of why a NAR failed, and holds its path back or doubts it if that is a proof against it.
    pub(crate) fn consider(&self, claim: &Claim, why: &StoreError, origin: Origin) {
        if !why.is_mismatch() || origin == Origin::FilesCompared {
            return;
        }
        let is_enough = origin != Origin::FilesInDoubt && !matches!(why, StoreError::NoFiles { .. });
        let mut paths = self.paths();
        let hash = claim.path.hash_part();
        let is_full = paths.len() >= MAX_PATHS;
        match paths.get_mut(&hash).filter(|suspect| suspect.claim == *claim) {
            Some(suspect) if is_enough => suspect.hold(why),
            Some(_) => {}
            None if is_full || self.looked_at().as_ref() == Some(claim) => {}
            None => {
                let seen = Sighting::of(&self.real_directory, &claim.path);
                let (claim, why_first, now) = (claim.clone(), why.clone(), Instant::now());
                let (pause, due, began) = (Duration::ZERO, now, now);
                let mut suspect =
                    Suspect { claim, is_quarantined: false, origin, why: why_first, began, seen, pause, due };
                if is_enough {
                    suspect.hold(why);
                } else {
                    tracing::debug!("{} is doubted: {why}", suspect.claim.path);
                }
                paths.insert(hash, suspect);
                self.changed.notify_one();
            }
        }
        self.counted(&paths);
    }

    /// Whether nobody is to be told of this path.
    pub(crate) fn holds(&self, valid: &ValidPath) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut paths = self.paths();
        let hash = valid.path.hash_part();
        let Some(suspect) = paths.get_mut(&hash) else { return false };
        if suspect.claim != Claim::of(valid) {
            paths.remove(&hash);
            self.counted(&paths);
            return false;
        }
        let is_due = suspect.due <= Instant::now();
        if !is_due && Sighting::of(&self.real_directory, &valid.path) != suspect.seen {
            suspect.due = Instant::now();
            self.changed.notify_one();
        }
        suspect.is_quarantined
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<QuarantinedPath> {
        let now = Instant::now();
        let path = |suspect: &Suspect| QuarantinedPath {
            path: suspect.claim.path.clone(),
            is_quarantined: suspect.is_quarantined,
            why: suspect.why.clone(),
            lasted: now.saturating_duration_since(suspect.began),
            due_in: suspect.due.saturating_duration_since(now),
        };
        self.paths().values().map(path).collect()
    }

    /// Whether this is held back or doubted.
    pub(crate) fn suspects(&self, claim: &Claim) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self.paths().get(&claim.path.hash_part()).is_some_and(|suspect| suspect.claim == *claim)
    }

    /// The path that is due first.
    pub(crate) fn next(&self) -> Option<(Instant, Claim)> {
        let paths = self.paths();
        let next = paths.values().min_by_key(|suspect| suspect.due)?;
        Some((next.due, next.claim.clone()))
    }

    /// Takes note of what a look has shown, before which the path looked like `seen`. The result is whether the files are to
    /// blame: they were wrong, and are as they were, while the daemon's dump is right.
    pub(crate) fn judge(&self, claim: &Claim, seen: Option<Sighting>, verdict: &Verdict) -> bool {
        let mut paths = self.paths();
        let hash = claim.path.hash_part();
        let Some(suspect) = paths.get_mut(&hash).filter(|suspect| suspect.claim == *claim) else { return false };
        let is_same = Sighting::of(&self.real_directory, &claim.path) == seen;
        let freed = match verdict {
            Verdict::Good => Some("its nar is right"),
            Verdict::Void => Some("it is not valid, or another"),
            Verdict::Wrong(why) => {
                suspect.hold(why);
                None
            }
            Verdict::Unknown(why) => {
                tracing::debug!("{} could not be looked at: {why}", claim.path);
                None
            }
        };
        if let Some(why) = freed {
            if suspect.is_quarantined {
                tracing::info!("{} is not held back any more: {why}", claim.path);
            }
            let by_files = suspect.origin == Origin::FilesInDoubt && suspect.seen == seen && is_same;
            paths.remove(&hash);
            self.counted(&paths);
            return by_files && seen.is_some() && matches!(verdict, Verdict::Good);
        }
        suspect.due = Instant::now();
        // Repaired during the look, perhaps: whoever asked meanwhile only saw that one was under way.
        if is_same {
            suspect.due += suspect.pause.max(FIRST_PAUSE);
            if matches!(verdict, Verdict::Wrong(_)) {
                suspect.pause = (suspect.pause.max(FIRST_PAUSE) * 2).min(LAST_PAUSE);
                suspect.seen = seen;
            }
        }
        self.counted(&paths);
        false
    }

    fn counted(&self, paths: &HashMap<HashPart, Suspect>) {
        self.count.store(paths.len(), Ordering::Relaxed);
        self.metrics.set_quarantined_paths(paths.values().filter(|suspect| suspect.is_quarantined).count());
    }

    pub(crate) fn looked_at(&self) -> MutexGuard<'_, Option<Claim>> {
        self.looked_at.lock()
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<HashPart, Suspect>> {
        self.paths.lock()
    }
}
