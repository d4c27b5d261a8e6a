//! Valid paths by the builds whose debug info they have, which the daemon cannot be asked for.
//!
//! The index is made of all valid paths, where the store is visible here. Most caches are never asked, so the first
//! question begins the first scan, and later ones happen only where a key is not in the index and the store may have
//! changed. One task scans, in small steps, and looks only into paths that look otherwise than before. Clients remember
//! a miss, so one is told from "not known":
//!
//! - A key leads to a path only if the daemon calls it valid now and it has the key now.
//! - A key is nowhere if a scan that began after the question has not found it, or an earlier one and nothing has come
//!   to the store directory or gone since. Only what was registered without a change of the directory (no build, no
//!   substitution and no copy does that) is found later, after ten minutes.
//! - Only valid paths are looked into: a path that is still being written would be taken for one without a key.

mod changes;
mod entries;
mod scans;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StorePath;
use harmonia_protocol::operation::QueryAllValidPaths;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::{BuildId, has, may_have_some, of_paths};
use crate::fairness::ClientId;
use crate::store::{Store, StoreError, ValidPath};
use changes::Changed;
use entries::{Entries, Full, MAX_CANDIDATES, Seen};
use scans::{Scan, Scans};

/// How long a question waits for scans. They take well below a second, but for the first one of a large store.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two scans, whoever asks for what; at most half of the time is spent with them.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Longer than a question waits would be of no use.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Paths that are looked at in one step. Shutting down waits for the end of a step.
const STEP: usize = 256;
/// Build ids in an index, up to 350 bytes each with what was seen of their paths: those of fifty kernels with all of their
/// modules.
const MAX_KEYS: usize = 500_000;
/// What it is an index of, for messages.
const WHAT: &str = "debug info";

/// An index of valid paths.
#[derive(Debug)]
pub(in crate::store) struct DebugInfoIndex {
    entries: Entries,
    wanted: Notify,
    scans: watch::Sender<Scans>,
}

impl DebugInfoIndex {
    /// An index of a store of which nothing is known yet.
    pub(in crate::store) fn new() -> Self {
        let (scans, _) = watch::channel(Scans::default());
        Self { entries: Entries::new(MAX_KEYS), wanted: Notify::new(), scans }
    }

    /// A valid path that has this key and is `wanted`; `None` if there is none, or if the store's files are not visible
    /// here. A dropped future leaves a scan that it asked for to go on.
    pub(in crate::store) async fn find(
        &self,
        store: &Store,
        id: &BuildId,
        wanted: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let mut scans = self.scans.subscribe();
        let begun = scans.borrow().begun;
        loop {
            let Some(changed) = store.on_disk(Changed::of_store).await? else { return Ok(None) };
            // Before the index is looked at, which has what was found by then.
            let now = scans.borrow_and_update().clone();
            let verdict = now.verdict(begun, changed, Instant::now());
            let candidates = self.entries.candidates(id);
            for hash in &candidates {
                let Some(valid) = store.valid_path(*hash, client).await? else { continue };
                // A path of the same name can have come in its place.
                if wanted(&valid) && has(store, &valid, id).await? {
                    return Ok(Some(valid));
                }
            }
            match verdict {
                Some(Ok(())) if candidates.len() == MAX_CANDIDATES => {
                    return Err(StoreError::TooManyPaths { what: WHAT, max: MAX_CANDIDATES });
                }
                Some(Ok(())) => return Ok(None),
                Some(Err(error)) => return Err(error),
                // The end of one that goes on may be enough.
                None if now.is_running() => {}
                None => self.wanted.notify_one(),
            }
            if timeout_at(deadline, scans.changed()).await.is_err() {
                return Err(StoreError::NotIndexed { what: WHAT, seconds: PATIENCE.as_secs() });
            }
        }
    }

    /// Scans whenever that is wanted, with pauses. Begun once more after a panic, it knows nothing of earlier scans: what
    /// they found is not used, and those who wait for the end of the last one begin another.
    pub(in crate::store) async fn scan_when_wanted(&self, store: &Store) {
        self.entries.clear();
        self.scans.send_modify(|scans| (scans.ended, scans.last) = (scans.begun, None));
        let mut seen = Seen::new();
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
            let (what, paths, keys) = (WHAT, seen.len(), self.entries.len());
            let line = format!("indexed the {what} of {paths} store paths: {keys} found, in {took:.1?}");
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
        let mut result = Ok(store.on_disk(Changed::of_store).await?.filter(|changed| changed.is_past(now)));
        let mut paths = store.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        // A tenth of a second for the largest stores, which requests need not wait for.
        tokio::task::block_in_place(|| {
            paths.retain(may_have_some);
            seen.keep(&self.entries, &paths.iter().map(StorePath::hash_part).collect::<HashSet<_>>());
        });
        for step in paths.chunks(STEP) {
            let paths: Arc<[_]> = step.into();
            let sights = store.on_disk(move |directory| Changed::of_paths(directory, &paths)).await?;
            let mut new = Vec::new();
            for (path, sight) in step.iter().zip(sights) {
                let hash = path.hash_part();
                match sight {
                    Ok(Some(changed)) if seen.changed(hash) == Some(changed) => {}
                    Ok(Some(changed)) => new.push((path.clone(), changed)),
                    Ok(None) => seen.forget(&self.entries, hash),
                    Err(error) => result = Err(error),
                }
            }
            // After when they were changed: a change that comes in between is seen the next time.
            let keys = of_paths(store, new.iter().map(|(path, _)| path.clone()).collect()).await?;
            for ((path, changed), keys) in new.into_iter().zip(keys) {
                let entered = keys.and_then(|keys| self.enter(seen, &path, changed, keys));
                if let Err(error) = entered {
                    result = Err(error);
                }
            }
        }
        result
    }

    fn enter(
        &self,
        seen: &mut Seen,
        path: &StorePath,
        changed: Changed,
        keys: Option<Vec<BuildId>>,
    ) -> Result<(), StoreError> {
        let hash = path.hash_part();
        let Some(keys) = keys else {
            seen.forget(&self.entries, hash);
            return Ok(());
        };
        let entered = seen.enter(&self.entries, hash, changed, keys);
        entered.map_err(|Full| StoreError::IndexFull { what: WHAT, max: self.entries.max() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::store::tests::{LAST, bytes, store};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_scan_that_was_cut_off_is_followed_by_another_for_those_who_wait() {
        let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
        let (_directory, store) = store(move |number, mut stream| {
            let asked = asked.clone();
            async move {
                while stream.read_exact(&mut [0; 8]).await.is_ok() {
                    asked.send(()).unwrap();
                    // The first scan gets no answer.
                    if number > 0 {
                        stream.write_all(&bytes(&[LAST, 0])).await.unwrap();
                    }
                }
            }
        });
        let shared = Arc::new((store, DebugInfoIndex::new()));
        let scan = || {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.1.scan_when_wanted(&shared.0).await })
        };
        let first = scan();
        let waiting = tokio::spawn({
            let (shared, id) = (Arc::clone(&shared), "00d3adbeef".parse().unwrap());
            async move { shared.1.find(&shared.0, &id, |_| true, ClientId::Server).await }
        });
        asking.recv().await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = scan();
        assert!(waiting.await.unwrap().unwrap().is_none());
        second.abort();
    }
}
