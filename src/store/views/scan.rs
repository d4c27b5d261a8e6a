//! A scan of a view: resolves its roots, and completes their closure by queries of nix-daemon.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use harmonia_protocol::StorePath;
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::prefetch_queue::BATCH;
use crate::store::views::path_set::PathSet;
use crate::store::views::path_table::{Full, MAX_PATHS, PathTable};
use crate::store::views::registry::{LABEL, Views};
use crate::store::views::resolve::{Roots, resolve};
use crate::store::views::view::{Basis, Shown, View};

/// A scan in progress. Dropped without a result, also by a panic, it counts as failed.
struct Ending<'a> {
    view: &'a View,
    failure: Option<StoreError>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.view.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.failure = self.failure.take();
        });
    }
}

/// Result of the resolution of a view's roots.
enum Resolved {
    /// Nothing that they depend on has changed.
    Unchanged(Basis),
    New(Roots),
}

impl Views {
    /// Starts a scan of a view, unless one is running.
    pub(crate) fn scan_if_idle(self: &Arc<Self>, view: &Arc<View>) {
        let mut starts = false;
        view.progress.send_if_modified(|progress| {
            if !progress.is_running() {
                progress.begun += 1;
                starts = true;
            }
            // Nobody waits for the start of a scan.
            false
        });
        if starts {
            let (this, view) = (Arc::clone(self), Arc::clone(view));
            tokio::spawn(async move {
                let failure = Some(StoreError::IndexNotReady { what: LABEL, seconds: 0 });
                let mut ending = Ending { view: &view, failure };
                ending.failure = this.scan(&view).await;
                drop(ending);
                this.collect_garbage();
            });
        }
    }

    /// Scans a view. Returns the reason why paths may be missing.
    async fn scan(&self, view: &View) -> Option<StoreError> {
        let _scanning = self.scanning.read().await;
        let began = Instant::now();
        // Read first: a later correction is for the next scan.
        let corrections = self.read().corrections;
        let basis = view.basis.lock().take().filter(|basis| basis.corrections == corrections);
        let roots = match self.resolve(view, basis).await {
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
        let (paths, failure) = match self.closure(view, began, &roots).await {
            Ok(complete) => complete,
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
        if failure.is_none() {
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

    /// Returns the closure of these roots, and the reason why paths may be missing. What is known of it is shown at once.
    async fn closure(&self, view: &View, began: Instant, roots: &Roots) -> Result<(PathSet, Option<StoreError>), Full> {
        let mut walk = Walk::default();
        let numbers = {
            let mut table = self.write();
            roots.paths.iter().map(|path| table.enter(path)).collect::<Result<Vec<_>, _>>()?
        };
        walk.extend(&self.read(), numbers);
        walk.unknown.retain(|path| !roots.absent.contains(&path.hash_part()));
        if !walk.unknown.is_empty() {
            self.show(view, began, walk.members.clone());
            // Wakes those who wait for a path that is shown by now.
            view.progress.send_modify(|_| {});
        }
        let mut failure = None;
        while !walk.unknown.is_empty() {
            let batch: Vec<_> = walk.unknown.drain(..walk.unknown.len().min(BATCH)).collect();
            for (path, result) in batch.iter().zip(self.path_infos.valid_paths(&batch, ClientId::Server).await) {
                let learnt = match result {
                    Ok(Some(valid)) => self.write().learn(path, &valid.info)?,
                    // It is a root or a reference all the same; whether it is valid is decided when it is requested.
                    Ok(None) | Err(StoreError::UnknownSize(_)) => continue,
                    Err(error) if error.is_unavailable() => return Ok((walk.members, Some(error))),
                    Err(error) => {
                        failure.get_or_insert(error);
                        continue;
                    }
                };
                let table = self.read();
                let references = table.references(learnt).map(<[u32]>::to_vec).unwrap_or_default();
                walk.extend(&table, references);
            }
        }
        let mut members = walk.members;
        members.shrink();
        let is_smaller = view.shown.load().as_ref().is_some_and(|before| before.paths.exceeds(&members));
        if is_smaller {
            self.has_garbage.store(true, Ordering::Relaxed);
        }
        Ok((members, failure))
    }

    fn show(&self, view: &View, began: Instant, paths: PathSet) {
        if view.shown.load().as_ref().is_some_and(|before| before.paths.exceeds(&paths)) {
            self.has_garbage.store(true, Ordering::Relaxed);
        }
        view.shown.store(Some(Arc::new(Shown { began, paths: Arc::new(paths) })));
    }
}

/// A traversal of references.
#[derive(Debug, Default)]
struct Walk {
    members: PathSet,
    /// Members whose references have to be queried.
    unknown: VecDeque<StorePath>,
}

impl Walk {
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
