//! A scan of a view: resolves its roots, and completes their closure by queries of nix-daemon.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use harmonia_protocol::StorePath;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::prefetch_queue::BATCH;
use crate::store::views::path_set::PathSet;
use crate::store::views::path_table::{Full, MAX_PATHS, PathTable};
use crate::store::views::registry::{LABEL, Views};
use crate::store::views::resolve::{Roots, resolve};
use crate::store::views::view::{Basis, Shown, View};

/// Time that a view rests after a scan, in times that the scan took: so a flood of requests for paths that are in no view
/// takes a quarter of a thread at most.
const REST: u32 = 3;
/// Upper bound of the rest, so that a new root shows soon.
const MAX_REST: Duration = Duration::from_secs(1);
/// Resolution of the timer. A shorter rest would take longer.
const MIN_REST: Duration = Duration::from_millis(1);

/// A scan in progress. Dropped without a result, also by a panic, it counts as failed.
struct Scan<'a> {
    view: &'a View,
    began: Instant,
    failure: Option<StoreError>,
}

impl<'a> Scan<'a> {
    fn begin(view: &'a View) -> Self {
        view.progress.send_if_modified(|progress| {
            progress.begun += 1;
            progress.is_due = false;
            // Nobody waits for the start of a scan.
            false
        });
        let failure = Some(StoreError::IndexNotReady { what: LABEL, seconds: 0 });
        Self { view, began: Instant::now(), failure }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        *self.view.rests_until.lock() = rest_after(self.began.elapsed()).map(|rest| Instant::now() + rest);
        self.view.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.failure = self.failure.take();
        });
    }
}

/// Returns the rest after a scan that took this long.
fn rest_after(scan: Duration) -> Option<Duration> {
    Some(scan.saturating_mul(REST).min(MAX_REST)).filter(|rest| *rest >= MIN_REST)
}

/// Result of the resolution of a view's roots.
enum Resolved {
    /// Nothing that they depend on has changed.
    Unchanged(Basis),
    New(Roots),
}

impl Views {
    /// Starts a scan of a view, unless one is running or due.
    pub(crate) fn scan_if_idle(self: &Arc<Self>, view: &Arc<View>) {
        let mut starts = false;
        view.progress.send_if_modified(|progress| {
            starts = !progress.is_due && !progress.is_running();
            progress.is_due |= starts;
            false
        });
        if starts {
            let (this, view) = (Arc::clone(self), Arc::clone(view));
            tokio::spawn(async move {
                let rests_until = *view.rests_until.lock();
                if let Some(end) = rests_until {
                    sleep_until(end).await;
                }
                // The semaphore is never closed.
                let turn = this.resolving.acquire().await;
                let mut scan = Scan::begin(&view);
                scan.failure = this.scan(&view, scan.began, turn.ok()).await;
                this.path_infos.metrics.views.record_scan(scan.failure.is_none(), this.read().len());
                drop(scan);
                this.collect_garbage();
            });
        }
    }

    /// Scans a view, whose roots it resolves in this `turn`. Returns the reason why paths may be missing.
    async fn scan(&self, view: &View, began: Instant, turn: Option<SemaphorePermit<'_>>) -> Option<StoreError> {
        let _scanning = self.scanning.read().await;
        // Read first: a later correction is for the next scan.
        let corrections = self.read().corrections;
        let basis = view.basis.lock().take().filter(|basis| basis.corrections == corrections);
        let resolved = self.resolve(view, basis).await;
        drop(turn);
        let roots = match resolved {
            Ok(Resolved::Unchanged(basis)) => {
                if let Some(shown) = view.shown.load_full() {
                    let paths = Arc::clone(&shown.paths);
                    *view.basis.lock() = Some(basis);
                    view.shown.store(Some(Arc::new(Shown { began, paths })));
                }
                return None;
            }
            Ok(Resolved::New(roots)) => roots,
            Err(failure) => return Some(failure),
        };
        if let Some(place) = &roots.denied {
            if let Some(more) = view.warnings.admit(()) {
                let (view, place) = (&view.name, place.display());
                tracing::warn!("view \"{view}\" has no roots in {place:?}, which this user may not read{more}");
            }
        }
        let Closure { paths, is_settled, failure } = match self.closure(view, began, &roots).await {
            Ok(closure) => closure,
            Err(Full) => return Some(StoreError::IndexFull { what: LABEL, max: MAX_PATHS }),
        };
        let failure = roots.failure.or(failure);
        let count = paths.len();
        let before = view.shown.swap(Some(Arc::new(Shown { began, paths: Arc::new(paths) })));
        let line = format!("view \"{}\": {} roots, {count} paths", view.name, roots.paths.len());
        match &failure {
            None if view.progress.borrow().begun == 1 => tracing::info!("{line}"),
            None if before.is_none_or(|before| before.paths.len() != count) => tracing::debug!("{line}"),
            None => {}
            Some(failure) => tracing::debug!("{line}, but incomplete: {failure}"),
        }
        if failure.is_none() && is_settled {
            *view.basis.lock() = Some(Basis { stamps: roots.stamps, corrections });
        }
        failure
    }

    async fn resolve(&self, view: &View, basis: Option<Basis>) -> Result<Resolved, StoreError> {
        let (patterns, logical, real) = (view.roots.clone(), self.directory.clone(), Arc::clone(&self.real_directory));
        let blocking = move || match basis.filter(|basis| basis.stamps.hold()) {
            Some(basis) => Resolved::Unchanged(basis),
            None => Resolved::New(resolve(&patterns, &logical, &real)),
        };
        let failed = |error| StoreError::file(Path::new("the roots of a view"), &io::Error::other(error));
        tokio::task::spawn_blocking(blocking).await.map_err(failed)
    }

    /// Returns the closure of these roots. What is known of it is shown at once.
    async fn closure(&self, view: &View, began: Instant, roots: &Roots) -> Result<Closure, Full> {
        let mut walk = Walk::default();
        let numbers = {
            let mut table = self.write();
            roots.paths.iter().map(|path| table.enter(path)).collect::<Result<Vec<_>, _>>()?
        };
        walk.extend(&self.read(), numbers);
        walk.unknown.retain(|path| !roots.absent.contains(&path.hash_part()));
        let (mut is_settled, mut failure) = (true, None);
        let mut turn = None;
        if !walk.unknown.is_empty() {
            self.show(view, began, walk.members.clone());
            // Wakes those who wait for a path that is shown by now.
            view.progress.send_modify(|_| {});
            // The semaphore is never closed.
            turn = self.querying.acquire().await.ok();
        }
        loop {
            let batch = walk.next_unknown(&self.read());
            if batch.is_empty() {
                break;
            }
            for (path, result) in batch.iter().zip(self.path_infos.valid_paths(&batch, ClientId::Server).await) {
                let learnt = match result {
                    Ok(Some(valid)) => self.write().learn(path, &valid.info)?,
                    // It is a root all the same, and may become valid without a change of what was read.
                    Ok(None) => {
                        is_settled = false;
                        continue;
                    }
                    Err(StoreError::UnknownSize(_)) => continue,
                    Err(error) => {
                        let is_last = error.is_unavailable();
                        failure.get_or_insert(error);
                        if is_last {
                            return Ok(Closure { paths: walk.members, is_settled, failure });
                        }
                        continue;
                    }
                };
                let table = self.read();
                let references = table.references(learnt).map(<[u32]>::to_vec).unwrap_or_default();
                walk.extend(&table, references);
            }
        }
        drop(turn);
        let mut paths = walk.members;
        paths.shrink();
        let is_smaller = view.shown.load().as_ref().is_some_and(|before| before.paths.exceeds(&paths));
        if is_smaller {
            self.has_garbage.store(true, Ordering::Relaxed);
        }
        Ok(Closure { paths, is_settled, failure })
    }

    fn show(&self, view: &View, began: Instant, paths: PathSet) {
        if view.shown.load().as_ref().is_some_and(|before| before.paths.exceeds(&paths)) {
            self.has_garbage.store(true, Ordering::Relaxed);
        }
        view.shown.store(Some(Arc::new(Shown { began, paths: Arc::new(paths) })));
    }
}

/// Paths that a scan found.
struct Closure {
    paths: PathSet,
    /// Whether a scan of the same roots would find the same.
    is_settled: bool,
    /// Reason why paths may be missing.
    failure: Option<StoreError>,
}

/// A traversal of references.
#[derive(Debug, Default)]
struct Walk {
    members: PathSet,
    /// Members whose references have to be queried.
    unknown: VecDeque<StorePath>,
}

impl Walk {
    /// Takes members whose references have to be queried, up to a batch, and walks on from those that are known by now.
    fn next_unknown(&mut self, table: &PathTable) -> Vec<StorePath> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(path) = self.unknown.pop_front() else { break };
            let number = table.number(path.hash_part());
            match number.and_then(|number| table.references(number).ok()) {
                Some(references) => self.extend(table, references.to_vec()),
                None => batch.push(path),
            }
        }
        batch
    }

    /// Adds these paths with everything that they are known to refer to.
    fn extend(&mut self, table: &PathTable, numbers: Vec<u32>) {
        let mut pending = numbers;
        while let Some(number) = pending.pop() {
            if self.members.insert(number) {
                match table.references(number) {
                    Ok(references) => pending.extend(references),
                    Err(path) => self.unknown.extend(path.cloned()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_of_microseconds_needs_no_rest_and_none_lasts_longer_than_a_second() {
        let rest = |micros| rest_after(Duration::from_micros(micros));
        assert_eq!((rest(0), rest(300)), (None, None));
        assert_eq!(rest(5_000), Some(Duration::from_millis(15)));
        assert_eq!(rest(10_000_000), Some(MAX_REST));
    }
}
