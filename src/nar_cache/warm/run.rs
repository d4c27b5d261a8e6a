//! Compresses and removes the NARs of paths that an operator names, in the cache of a running server.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::time::sleep;

use super::paths::{WarmError, WarmOutcome, resolve, select};
use crate::fairness::ClientId;
use crate::nar_cache::admin::{Removed, matching};
use crate::nar_cache::cache::NarCache;

/// Attempts for a path while nix-daemon is unavailable. With [`RETRY_INTERVAL`] they last longer than its restart.
const ATTEMPTS: u32 = 15;
/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

impl NarCache {
    /// Compresses the NAR of a path unless it is in the cache already. If the future is dropped, a fill that runs is completed
    /// nevertheless.
    pub async fn warm(self: &Arc<Self>, hash: HashPart) -> Result<WarmOutcome, WarmError> {
        let valid = self.store.valid_path(hash, ClientId::Server).await?.ok_or(WarmError::NotValid(hash))?;
        if !self.fits(valid.info.nar_size) {
            return Ok(WarmOutcome::TooLarge);
        }
        let path = || self.store.directory().full_path(&valid.path);
        let failed = |cause| WarmError::Fill { path: path(), cause };
        let mut nar = self.get_or_fill(&valid, ClientId::Server).await.map_err(failed)?;
        let outcome = if nar.known_length().is_some() { WarmOutcome::Cached } else { WarmOutcome::Compressed };
        nar.length().await.map_err(failed)?;
        Ok(outcome)
    }

    /// Removes the compressed NARs of these paths, and with `recursive` of their closures. Responses that are being sent
    /// from them are completed.
    pub async fn remove(&self, hashes: &[HashPart], recursive: bool) -> Result<Removed, WarmError> {
        let (selection, disk) = (select(&self.store, hashes, recursive).await?, Arc::clone(&self.disk));
        // Not run on the disk's threads: it may take long without the disk being stalled.
        let removing = tokio::task::spawn_blocking(move || {
            let mut removed = Removed::default();
            for (key, bytes, _) in matching(disk.directory(), &selection)? {
                disk.remove(&key);
                removed = Removed { nars: removed.nars + 1, bytes: removed.bytes + bytes };
            }
            Ok(removed)
        });
        removing.await.map_err(std::io::Error::other).and_then(|removed| removed).map_err(WarmError::Disk)
    }

    /// Queues these paths to be compressed. Returns how many were queued, from the first on: fewer than all if the queue
    /// stays full.
    pub async fn enqueue_warm(&self, hashes: &[HashPart], recursive: bool) -> usize {
        self.warm_queue.push(hashes, recursive).await
    }

    /// Returns the number of queued paths that are not done.
    #[must_use]
    pub fn queued_warm(&self) -> usize {
        self.warm_queue.pending()
    }

    /// Compresses the NARs of queued paths. Never returns.
    pub async fn run_warm_queue(self: &Arc<Self>) {
        let mut requests = self.warm_queue.requests().await;
        while let Some(request) = requests.recv().await {
            let pending = self.warm_queue.start();
            match with_retries(|| resolve(&self.store, std::slice::from_ref(&request.hash), request.recursive)).await {
                Ok(members) => {
                    for member in members {
                        let (cache, pending) = (Arc::clone(self), Arc::clone(&pending));
                        let permit = self.warm_queue.permit().await;
                        tokio::spawn(async move {
                            let _until_done = (permit, pending);
                            let hash = member.path.hash_part();
                            if let Err(error) = with_retries(|| cache.warm(hash)).await {
                                tracing::warn!("cannot compress queued path {}: {error}", member.path);
                            }
                        });
                    }
                }
                Err(error) => tracing::warn!("cannot compress queued path {}: {error}", request.hash),
            }
        }
    }
}

/// Repeats an attempt while nix-daemon is unavailable.
async fn with_retries<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, WarmError>
where
    F: Future<Output = Result<T, WarmError>>,
{
    let mut attempts = 1;
    loop {
        match attempt().await {
            Err(error) if error.is_unavailable() && attempts < ATTEMPTS => {}
            last => return last,
        }
        attempts += 1;
        sleep(RETRY_INTERVAL).await;
    }
}
