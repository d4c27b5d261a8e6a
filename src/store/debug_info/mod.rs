//! Where in the store the debug info of a build is: `lib/debug/.build-id/<2>/<rest>.debug` in some path, as nixpkgs'
//! hook for separate debug info leaves it, and as Nix indexes it when it copies to a cache (`src/libstore/
//! binary-cache-store.cc`, `index-debug-info`).
//!
//! The daemon knows nothing of it, so valid paths are looked into where the store is visible here. Most caches are never
//! asked, so the first question begins the first scan, and later ones happen only where an id is not in the index and
//! the store may have changed. One task scans, in small steps on blocking threads. Clients remember a miss for a day,
//! so one is told from "not known":
//!
//! - An id leads to a path only if the daemon calls it valid now and the file is there now.
//! - An id is nowhere if a scan that began after the question has not found it, or an earlier one and nothing has come
//!   to the store directory or gone since. Only what was registered without a change of the directory (no build, no
//!   substitution and no copy does that) is found later, after [`MAX_AGE`].
//! - Only valid paths are looked into: a path that is still being written would be taken for one without debug info.

mod build_id;
mod files;
mod index;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StorePath;
use harmonia_protocol::operation::QueryAllValidPaths;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

pub use build_id::{BuildId, InvalidBuildId};

use super::{Store, StoreError, ValidPath};
use files::{Changed, Files, Look};
use index::{Full, Index, Seen};

/// How long a question waits for scans. They take well below a second, but for the first one of a large store.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two scans, whoever asks for what; at most half of the time is spent with them.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Longer than a question waits would be of no use.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a scan holds while the store directory does not change.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// Paths that are looked at in one step. Shutting down waits for the end of a step.
const STEP: usize = 256;
/// Build ids in the index, some 100 bytes each: fifty kernels with all of their modules.
const MAX_IDS: usize = 500_000;

/// The debug info of a store.
#[derive(Debug)]
pub(super) struct DebugInfo {
    files: Arc<Files>,
    index: Index,
    wanted: Notify,
    scans: watch::Sender<Scans>,
}

/// The scans so far, by their number.
#[derive(Debug, Clone, Default)]
struct Scans {
    begun: u64,
    ended: u64,
    /// Of the last that ended.
    last: Option<Scan>,
}

#[derive(Debug, Clone)]
struct Scan {
    began: Instant,
    /// Fails if not all of the store was seen, and otherwise says when the store directory had last been changed; not
    /// if that was only just, since it would not tell the next change from this one.
    result: Result<Option<Changed>, StoreError>,
}

impl Scans {
    /// What can be said of an id that is not in the index, to who asked when `begun` scans had; `None` if nothing can.
    fn verdict(&self, begun: u64, changed: Changed, now: Instant) -> Option<Result<(), StoreError>> {
        let last = self.last.as_ref()?;
        match &last.result {
            result if self.ended > begun => Some(result.clone().map(drop)),
            Ok(before) => (*before == Some(changed) && now < last.began + MAX_AGE).then_some(Ok(())),
            Err(_) => None,
        }
    }
}

impl DebugInfo {
    /// That of the store in this directory, of which nothing is known yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        let (scans, _) = watch::channel(Scans::default());
        Self { files: Arc::new(Files(directory)), index: Index::new(MAX_IDS), wanted: Notify::new(), scans }
    }

    /// A valid path that has the debug info of this build and is `wanted`; `None` if there is none, or if the store's
    /// files are not visible here. A dropped future leaves a scan that it asked for to go on.
    pub(super) async fn find(
        &self,
        store: &Store,
        id: &BuildId,
        wanted: impl Fn(&ValidPath) -> bool,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut scans = self.scans.subscribe();
        let begun = scans.borrow().begun;
        loop {
            let Some(changed) = self.on_disk(Files::changed).await? else { return Ok(None) };
            // Before the index is looked at, which has what was found by then.
            let now = scans.borrow_and_update().clone();
            let verdict = now.verdict(begun, changed, Instant::now());
            if let Some(found) = self.look_up(store, id, &wanted).await? {
                return Ok(Some(found));
            }
            match verdict {
                Some(Ok(())) => return Ok(None),
                Some(Err(error)) => return Err(error),
                // The end of one that goes on may be enough.
                None if now.begun == now.ended => self.wanted.notify_one(),
                None => {}
            }
            if timeout_at(deadline, scans.changed()).await.is_err() {
                return Err(StoreError::DebugInfoUnknown { seconds: PATIENCE.as_secs() });
            }
        }
    }

    async fn look_up(
        &self,
        store: &Store,
        id: &BuildId,
        wanted: &impl Fn(&ValidPath) -> bool,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        for hash in self.index.candidates(id) {
            let Some(valid) = store.valid_path(hash).await?.filter(|valid| wanted(valid)) else { continue };
            let (path, id) = (valid.path.clone(), id.clone());
            // A path of the same name can have come in its place.
            if self.on_disk(move |files| files.have(&path, &id)).await? {
                return Ok(Some(valid));
            }
        }
        Ok(None)
    }

    /// Scans whenever that is wanted, with pauses.
    pub(super) async fn scan_when_wanted(&self, store: &Store) {
        let mut seen = Seen::default();
        loop {
            self.wanted.notified().await;
            self.scans.send_if_modified(|scans| {
                scans.begun += 1;
                // Nobody waits for a beginning.
                false
            });
            let began = Instant::now();
            let result = self.scan(store, &mut seen).await;
            let took = began.elapsed();
            let (paths, ids) = (seen.len(), self.index.len());
            let line = format!("indexed the debug info of {paths} store paths: {ids} build ids, in {took:.1?}");
            match &result {
                Ok(_) if self.scans.borrow().last.is_none() => tracing::info!("{line}"),
                Ok(_) => tracing::debug!("{line}"),
                Err(error) => tracing::debug!("{line}, but not all: {error}"),
            }
            self.scans.send_modify(|scans| {
                scans.ended = scans.begun;
                scans.last = Some(Scan { began, result });
            });
            tokio::time::sleep(took.clamp(LEAST_PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// Looks into all valid paths that are not as they were `seen`, and goes on past those that fail.
    async fn scan(&self, store: &Store, seen: &mut Seen) -> Result<Option<Changed>, StoreError> {
        // First: what changes from now on is for the next scan.
        let now = SystemTime::now();
        let changed = self.on_disk(Files::changed).await?.filter(|changed| changed.is_past(now));
        let mut paths = store.pool.call(&QueryAllValidPaths).await?;
        // A tenth of a second for the largest stores, which requests need not wait for.
        tokio::task::block_in_place(|| {
            // They are files.
            paths.retain(|path| !path.is_derivation());
            seen.keep(&self.index, &paths.iter().map(StorePath::hash_part).collect::<HashSet<_>>());
        });
        let mut result = Ok(changed);
        for step in paths.chunks(STEP) {
            let step: Arc<[_]> = step.iter().map(|path| (path.clone(), seen.changed(path.hash_part()))).collect();
            let looking = Arc::clone(&step);
            let looks = self.on_disk(move |files| files.look(&looking)).await?;
            for ((path, _), look) in step.iter().zip(looks) {
                if let Err(error) = self.enter(seen, path, look) {
                    result = Err(error);
                }
            }
        }
        result
    }

    fn enter(&self, seen: &mut Seen, path: &StorePath, look: Result<Look, StoreError>) -> Result<(), StoreError> {
        let hash = path.hash_part();
        match look? {
            Look::Same => {}
            Look::Nothing => seen.forget(&self.index, hash),
            Look::New(changed, ids) => seen
                .enter(&self.index, hash, changed, ids)
                .map_err(|Full| StoreError::TooManyBuildIds { max: self.index.max_ids() })?,
        }
        Ok(())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.map_err(|error| StoreError::file(&self.files.0, &io::Error::other(error)))?
    }
}
