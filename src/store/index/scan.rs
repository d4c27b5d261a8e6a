//! Scans of the store for debug info.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StorePath;
use harmonia_protocol::operation::QueryAllValidPaths;
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::index::build_id::BuildId;
use crate::store::index::change_time::ChangeTime;
use crate::store::index::debug_files;
use crate::store::index::debug_info::{DebugInfoIndex, LABEL};
use crate::store::index::entries::{Full, Scanned};
use crate::store::index::scans::Scan;
use crate::store::state::Store;

/// Minimal pause after a scan. The pause is otherwise as long as the scan took.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Maximal pause after a scan, below the time that a lookup waits.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Paths per blocking step. Shutdown waits for the end of a step.
const STEP: usize = 256;

impl Store {
    /// Scans the store for debug info whenever a lookup needs it. Never returns.
    ///
    /// Restarted after a panic it begins with an empty index, and waiting lookups request another scan.
    pub async fn index_debug_info(&self) {
        let index = &self.debug_info;
        index.entries.clear();
        index.scans.send_modify(|scans| (scans.ended, scans.last) = (scans.begun, None));
        let mut scanned = Scanned::new();
        loop {
            index.wanted.notified().await;
            index.scans.send_if_modified(|scans| {
                scans.begun += 1;
                // Nobody waits for the start of a scan.
                false
            });
            let began = Instant::now();
            let result = self.scan(&mut scanned).await;
            let took = began.elapsed();
            let (what, paths, keys) = (LABEL, scanned.len(), index.entries.len());
            let line = format!("indexed the {what} of {paths} store paths in {took:.1?}: {keys} entries");
            match &result {
                Ok(_) if index.scans.borrow().last.is_none() => tracing::info!("{line}"),
                Ok(_) => tracing::debug!("{line}"),
                Err(error) => tracing::debug!("{line}, but incomplete: {error}"),
            }
            index.scans.send_modify(|scans| {
                scans.ended = scans.begun;
                scans.last = Some(Scan { began, result });
            });
            tokio::time::sleep(took.clamp(MIN_PAUSE, MAX_PAUSE)).await;
        }
    }

    /// Scans all valid paths that have changed since the last scan, and continues after errors. Returns the change time
    /// that the store directory had before, or the last error.
    async fn scan(&self, scanned: &mut Scanned) -> Result<Option<ChangeTime>, StoreError> {
        let index = &self.debug_info;
        // Read first: later changes are for the next scan.
        let now = SystemTime::now();
        let mut result = Ok(self.on_disk(ChangeTime::of_store).await?.filter(|changed| changed.is_past(now)));
        let mut paths = self.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        // Takes a tenth of a second for the largest stores.
        tokio::task::block_in_place(|| {
            // A derivation is a file, which holds no other.
            paths.retain(|path| !path.is_derivation());
            scanned.retain(&index.entries, &paths.iter().map(StorePath::hash_part).collect::<HashSet<_>>());
        });
        for step in paths.chunks(STEP) {
            let paths: Arc<[_]> = step.into();
            let change_times = self.on_disk(move |directory| ChangeTime::of_paths(directory, &paths)).await?;
            let mut new = Vec::new();
            for (path, changed) in step.iter().zip(change_times) {
                let hash = path.hash_part();
                match changed {
                    Ok(Some(changed)) if scanned.change_time(hash) == Some(changed) => {}
                    Ok(Some(changed)) => new.push((path.clone(), changed)),
                    Ok(None) => scanned.remove(&index.entries, hash),
                    Err(error) => result = Err(error),
                }
            }
            // Read after the change times: a change in between is scanned next time.
            let paths: Vec<_> = new.iter().map(|(path, _)| path.clone()).collect();
            let keys = self.on_disk(move |directory| debug_files::build_ids(directory, &paths)).await?;
            for ((path, changed), keys) in new.into_iter().zip(keys) {
                let entered = keys.and_then(|keys| index.enter(scanned, &path, changed, keys));
                if let Err(error) = entered {
                    result = Err(error);
                }
            }
        }
        result
    }
}

impl DebugInfoIndex {
    fn enter(
        &self,
        scanned: &mut Scanned,
        path: &StorePath,
        changed: ChangeTime,
        keys: Option<Vec<BuildId>>,
    ) -> Result<(), StoreError> {
        let hash = path.hash_part();
        let Some(keys) = keys else {
            scanned.remove(&self.entries, hash);
            return Ok(());
        };
        let entered = scanned.insert(&self.entries, hash, changed, keys);
        entered.map_err(|Full| StoreError::IndexFull { what: LABEL, max: self.entries.max() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::store::tests::{LAST, bytes, store};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cancelled_scan_is_followed_by_another_for_waiting_lookups() {
        let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
        let (_directory, store) = store(move |number, mut stream| {
            let asked = asked.clone();
            async move {
                while stream.read_exact(&mut [0; 8]).await.is_ok() {
                    asked.send(()).unwrap();
                    // The first scan gets no reply.
                    if number > 0 {
                        stream.write_all(&bytes(&[LAST, 0])).await.unwrap();
                    }
                }
            }
        });
        let shared = Arc::new(store);
        let scan = || {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.index_debug_info().await })
        };
        let first = scan();
        let waiting = tokio::spawn({
            let (shared, id) = (Arc::clone(&shared), "00d3adbeef".parse().unwrap());
            async move { shared.find_debug_info(&id, |_| true, |_| true, ClientId::Server).await }
        });
        asking.recv().await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = scan();
        assert!(waiting.await.unwrap().unwrap().is_none());
        second.abort();
    }
}
