//! The hidden paths in memory, and changes of them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use harmonia_protocol::{HashPart, StorePath};

use crate::fairness::FairSemaphore;
use crate::metrics::Metrics;
use crate::store::hidden::file::{self, HiddenError, MAX_PATHS, Paths};
use crate::store::hidden::hidden_path::HiddenPath;
use crate::sync::Mutex;

/// Upper bound of paths of which it is remembered whether they refer to a hidden one: 64 MiB. Then all are forgotten.
const MAX_KNOWN: usize = 1 << 20;

/// Upper bound of walks through closures at once.
const MAX_WALKS: usize = 4;

/// Hidden paths of one store.
#[derive(Debug)]
pub(crate) struct HiddenPaths {
    /// `None` if nothing can be hidden.
    state_dir: Option<PathBuf>,
    /// Whether any path is hidden, so that requests take no lock while none is.
    is_any: AtomicBool,
    pub(crate) state: Mutex<State>,
    /// Held during a change, which waits for the disk.
    changing: tokio::sync::Mutex<()>,
    /// Permits for walks through closures, one for each client, whose next walk then finds the results of the last.
    pub(crate) walks: FairSemaphore,
}

/// Hidden paths, and what is known of others.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) paths: Paths,
    /// Derivations of hidden paths.
    derivers: HashSet<HashPart>,
    /// Number of changes.
    pub(crate) changes: u64,
    /// The hidden path with `referrers` in the closure of each path that is known.
    known: HashMap<HashPart, Option<HashPart>>,
}

/// Knowledge of whether a path is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hidden by the path with this hash part: itself, or one in its closure.
    HiddenBy(HashPart),
    NotHidden,
    /// Its closure has to be looked at.
    Unknown,
}

impl State {
    /// Returns the hidden path with `referrers` that has this hash part.
    pub(crate) fn hides_referrers_of(&self, hash: HashPart) -> bool {
        self.paths.get(&hash).is_some_and(|hidden| hidden.referrers)
    }

    pub(crate) fn follows_referrers(&self) -> bool {
        self.paths.values().any(|hidden| hidden.referrers)
    }

    /// Returns what is known of a path.
    pub(crate) fn verdict(&self, hash: HashPart) -> Verdict {
        if self.paths.contains_key(&hash) {
            return Verdict::HiddenBy(hash);
        }
        if !self.follows_referrers() {
            return Verdict::NotHidden;
        }
        self.known.get(&hash).map_or(Verdict::Unknown, |by| by.map_or(Verdict::NotHidden, Verdict::HiddenBy))
    }

    /// Remembers the verdict on paths, unless there was a change since.
    pub(crate) fn remember(&mut self, changes: u64, paths: impl IntoIterator<Item = HashPart>, by: Option<HashPart>) {
        if self.changes != changes {
            return;
        }
        for path in paths {
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(path, by);
        }
    }
}

impl HiddenPaths {
    /// Creates an empty set without reading the file.
    pub(crate) fn new(state_dir: Option<PathBuf>, metrics: &Metrics) -> Self {
        let walks = FairSemaphore::new("hidden_closure", MAX_WALKS, metrics);
        walks.resize(MAX_WALKS, 1);
        Self {
            state_dir,
            is_any: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            changing: tokio::sync::Mutex::new(()),
            walks,
        }
    }

    /// Reads the file. Blocks on the disk.
    pub(crate) fn load(&self) -> Result<(), HiddenError> {
        if let Some(state_dir) = &self.state_dir {
            self.set(file::read(state_dir)?);
        }
        Ok(())
    }

    /// Returns whether no path is hidden.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_any.load(Ordering::Acquire)
    }

    /// Returns all hidden paths.
    pub(crate) fn all(&self) -> Vec<HiddenPath> {
        self.state().paths.values().cloned().collect()
    }

    /// Returns the hidden path with this hash part.
    pub(crate) fn get(&self, hash: HashPart) -> Option<HiddenPath> {
        self.state().paths.get(&hash).cloned()
    }

    /// Returns whether this is the hash part of a hidden path, or of the derivation of one.
    pub(crate) fn hides_log_of(&self, hash: HashPart) -> bool {
        let state = self.state();
        state.paths.contains_key(&hash) || state.derivers.contains(&hash)
    }

    /// Hides a path for all later requests and over restarts, or replaces the reason why it is hidden.
    pub(crate) async fn hide(&self, path: HiddenPath) -> Result<(), HiddenError> {
        self.change(|paths| drop(paths.insert(path.hash, path))).await
    }

    /// Sets the name and the derivation of a path, if it is hidden.
    pub(crate) async fn name(&self, hash: HashPart, name: &str, deriver: Option<&str>) -> Result<(), HiddenError> {
        self.change(|paths| {
            if let Some(path) = paths.get_mut(&hash) {
                path.path = Some(name.to_owned());
                path.deriver = deriver.map(str::to_owned);
            }
        })
        .await
    }

    /// Shows a path again; `None` if it is not hidden itself.
    pub(crate) async fn unhide(&self, hash: HashPart) -> Result<Option<HiddenPath>, HiddenError> {
        let mut removed = None;
        self.change(|paths| removed = paths.remove(&hash)).await?;
        Ok(removed)
    }

    /// Changes the file and then the paths in memory.
    async fn change(&self, change: impl FnOnce(&mut Paths)) -> Result<(), HiddenError> {
        let state_dir = self.state_dir.clone().ok_or(HiddenError::NoStateDirectory)?;
        let _changing = self.changing.lock().await;
        let mut paths = self.state().paths.clone();
        change(&mut paths);
        if paths.len() > MAX_PATHS {
            return Err(HiddenError::Full);
        }
        let file = state_dir.clone();
        let written = tokio::task::spawn_blocking(move || file::write(&file, &paths).map(|()| paths));
        let panicked = |cause: tokio::task::JoinError| HiddenError::Write { path: state_dir, cause: cause.into() };
        self.set(written.await.map_err(panicked)??);
        Ok(())
    }

    fn set(&self, paths: Paths) {
        let mut state = self.state();
        let deriver = |path: &HiddenPath| StorePath::from_base_name(path.deriver.as_deref()?).ok();
        state.derivers = paths.values().filter_map(deriver).map(|path| path.hash_part()).collect();
        state.changes += 1;
        state.known.clear();
        let is_any = !paths.is_empty();
        state.paths = paths;
        // Under the lock: whoever sees that there are paths finds them.
        self.is_any.store(is_any, Ordering::Release);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
