//! All views, and the scans that requests need.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use harmonia_protocol::{HashPart, StoreDir};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::config::ViewConfig;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::views::path_set::PathSet;
use crate::store::views::path_table::PathTable;
use crate::store::views::view::View;

/// Time for which a path is shown after the start of a scan that found it: a removed root disappears within this and the
/// time of a scan.
pub(crate) const BELIEVED: Duration = Duration::from_secs(4);
/// Age of a scan from which on a request starts another one, but does not wait for it.
const REFRESH_AFTER: Duration = Duration::from_secs(2);
/// Time limit of a lookup that waits for scans. The first one of a large view may take longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound of views whose roots are resolved at once, one thread each.
const MAX_RESOLVING: usize = 16;
/// Upper bound of views for which nix-daemon is queried at once. What one of them learns, the others need not ask.
const MAX_QUERYING: usize = 4;
/// Name of what is scanned, for messages.
pub(crate) const LABEL: &str = "the paths of a view";

/// Target of a lookup in views.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// The path with this hash part.
    Path(HashPart),
    /// The build log of the derivation or output with this hash part: that of a derivation belongs to those who may read it,
    /// or a path that it built.
    Log(HashPart),
}

/// All views of a store.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) path_infos: Arc<PathInfoCache>,
    pub(crate) directory: StoreDir,
    pub(crate) real_directory: Arc<Path>,
    /// Locked for microseconds, and never across an await. Whoever tests a set holds it: only so a number means the same path
    /// in the table and in the set.
    pub(crate) table: Arc<RwLock<PathTable>>,
    by_name: ArcSwap<HashMap<Arc<str>, Arc<View>>>,
    /// Held by each scan, so that paths that are in no view yet are not removed under it.
    pub(crate) scanning: tokio::sync::RwLock<()>,
    /// Permits to resolve roots.
    pub(crate) resolving: Semaphore,
    /// Permits to query nix-daemon for references.
    pub(crate) querying: Semaphore,
    /// Whether there may be paths in the table that are in no view.
    pub(crate) has_garbage: AtomicBool,
}

impl Views {
    pub(crate) fn new(
        path_infos: &Arc<PathInfoCache>,
        directory: &StoreDir,
        real_directory: &Path,
        views: &[ViewConfig],
    ) -> Arc<Self> {
        let new = Self {
            path_infos: Arc::clone(path_infos),
            directory: directory.clone(),
            real_directory: real_directory.into(),
            table: Arc::clone(&path_infos.viewed),
            by_name: ArcSwap::default(),
            scanning: tokio::sync::RwLock::default(),
            resolving: Semaphore::new(MAX_RESOLVING),
            querying: Semaphore::new(MAX_QUERYING),
            has_garbage: AtomicBool::new(false),
        };
        new.replace(views);
        Arc::new(new)
    }

    /// Replaces all views. Those whose roots are unchanged keep their paths.
    pub(crate) fn replace(&self, views: &[ViewConfig]) {
        let old = self.by_name.load();
        self.by_name.store(Arc::new(views.iter().map(|config| named(config, &old)).collect()));
        self.has_garbage.store(true, Ordering::Relaxed);
    }

    /// Adds views, or replaces those whose roots have changed.
    pub(crate) fn add(&self, views: &[ViewConfig]) {
        let old = self.by_name.load();
        let mut all = HashMap::clone(&old);
        all.extend(views.iter().map(|config| named(config, &old)));
        self.by_name.store(Arc::new(all));
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, PathTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, PathTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the view of this name.
    #[cfg(test)]
    pub(crate) fn view(&self, name: &str) -> Option<Arc<View>> {
        self.by_name.load().get(name).map(Arc::clone)
    }

    /// Returns whether one of these views shows this by a scan that was recent when the request `arrived`. Starts another
    /// scan before that is too old.
    pub(crate) fn shows_now(self: &Arc<Self>, wanted: Wanted, names: &[Arc<str>], arrived: Instant) -> bool {
        let mut aged = None;
        let is_seen = {
            let table = self.read();
            let by_name = self.by_name.load();
            let is_among = |paths: &PathSet| match wanted {
                Wanted::Path(hash) => table.is_in(hash, |number| paths.contains(number)),
                Wanted::Log(hash) => {
                    let is_output = table.built_by(hash).iter().any(|number| paths.contains(*number));
                    is_output | table.is_in(hash, |number| paths.contains(number))
                }
            };
            names.iter().filter_map(|name| by_name.get(name)).any(|view| {
                let last = view.shown.load();
                let Some(shown) = last.as_ref() else { return false };
                let age = arrived.saturating_duration_since(shown.began);
                let is_shown = age < BELIEVED && is_among(&shown.paths);
                if is_shown && age >= REFRESH_AFTER {
                    aged = Some(Arc::clone(view));
                }
                is_shown
            })
        };
        if let Some(view) = aged {
            self.scan_if_idle(&view);
        }
        is_seen
    }

    /// Returns whether one of these views shows this; false only if scans that began after the call did not find it. The
    /// error is that of a scan that is incomplete. A scan that a dropped future started continues.
    pub(crate) async fn shows(self: &Arc<Self>, wanted: Wanted, names: &[Arc<str>]) -> Result<bool, StoreError> {
        let arrived = Instant::now();
        if self.shows_now(wanted, names, arrived) {
            return Ok(true);
        }
        // Boxed: the future of every narinfo has room for this one.
        Box::pin(self.rescan(Some(wanted), names, arrived)).await
    }

    /// Waits until scans of these views that began after the call have ended, or one of them shows this. Returns whether it
    /// does.
    pub(crate) async fn rescan(
        self: &Arc<Self>,
        wanted: Option<Wanted>,
        names: &[Arc<str>],
        arrived: Instant,
    ) -> Result<bool, StoreError> {
        let deadline = arrived + LOOKUP_TIMEOUT;
        let shows = || wanted.is_some_and(|wanted| self.shows_now(wanted, names, arrived));
        let views: Vec<_> = {
            let by_name = self.by_name.load();
            names.iter().filter_map(|name| by_name.get(name)).map(Arc::clone).collect()
        };
        let mut scans: Vec<_> = views.iter().map(|view| (view, view.progress.subscribe())).collect();
        let begun: Vec<_> = scans.iter().map(|(_, progress)| progress.borrow().begun).collect();
        // All at once.
        for view in &views {
            self.scan_if_idle(view);
        }
        let mut failure = None;
        for ((view, progress), begun) in scans.iter_mut().zip(begun) {
            loop {
                // Read before the sets, which then have everything that these scans found.
                let now = progress.borrow_and_update().clone();
                if shows() {
                    return Ok(true);
                }
                if now.ended > begun {
                    failure = failure.or(now.failure);
                    break;
                }
                self.scan_if_idle(view);
                // The sender is in the view.
                if timeout_at(deadline, progress.changed()).await.is_err() {
                    return Err(StoreError::IndexNotReady { what: LABEL, seconds: LOOKUP_TIMEOUT.as_secs() });
                }
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Starts the first scan of each view.
    pub(crate) fn scan_all(self: &Arc<Self>) {
        for view in self.by_name.load().values() {
            self.scan_if_idle(view);
        }
    }

    /// Removes paths that are in no view from the table, unless a scan is running.
    pub(crate) fn collect_garbage(&self) {
        if !self.has_garbage.load(Ordering::Relaxed) {
            return;
        }
        let Ok(_no_scan) = self.scanning.try_write() else { return };
        self.has_garbage.store(false, Ordering::Relaxed);
        let mut table = self.write();
        let mut wanted = PathSet::default();
        for shown in self.by_name.load().values().filter_map(|view| view.shown.load_full()) {
            wanted.extend(&shown.paths);
        }
        table.retain(&wanted);
    }
}

/// Returns the old view of this name if it has the same roots, else a new one.
fn named(config: &ViewConfig, old: &HashMap<Arc<str>, Arc<View>>) -> (Arc<str>, Arc<View>) {
    let kept = old.get(config.name.as_str()).filter(|view| view.roots == config.roots);
    let view = kept.map_or_else(|| Arc::new(View::new(config)), Arc::clone);
    (Arc::clone(&view.name), view)
}
