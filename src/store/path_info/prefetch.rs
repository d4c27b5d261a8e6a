//! Prefetching of references: a client that received a narinfo requests those of its references next.
//!
//! References are whole paths, so that one operation each is enough, in pipelines. References of paths that were not
//! cached are prefetched too: when a client comes to the second level of a closure, most of it is cached. A stale
//! entry is queried only if it is a direct reference of a served path, so that a client that requests one narinfo every
//! minute does not refresh a whole closure.
//!
//! Never delays a request: it uses one connection at a time, only if another one stays free, returns it after each
//! batch, and drops its queue if it gets none for a while or nix-daemon fails.

use std::sync::Arc;

use harmonia_protocol::StorePath;

use crate::store::path_info::batch::BatchReply;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::prefetch_queue::{Offered, PrefetchQueue};
use crate::store::path_info::valid_path::ValidPath;

/// Number of attempts to get an idle connection, 10 ms apart.
const BUSY_ATTEMPTS: usize = 100;

/// Ends a run when dropped, also by a panic, so that the next offer starts_run another.
struct Run<'a>(&'a PrefetchQueue);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl PathInfoCache {
    /// Prefetches in the background the references of a served path that have no fresh entry.
    pub(crate) fn prefetch_references(self: &Arc<Self>, valid: &ValidPath) {
        let hash = valid.path.hash_part();
        let missing: Vec<_> = {
            let mut entries = self.entries();
            match entries.find(&hash) {
                Some(entry) if !entry.prefetched => entry.prefetched = true,
                _ => return,
            }
            // With a ttl of 0 a prefetched entry would never be fresh.
            let wanted = |path: &StorePath| {
                let is_within_ttl = entries.peek(&path.hash_part()).is_some_and(|entry| self.is_within_ttl(entry));
                *path != valid.path && !is_within_ttl && !self.ttl().is_zero()
            };
            valid.info.reference_paths().filter(wanted).collect()
        };
        let Offered { is_complete, starts_run } = self.prefetch_queue.offer(missing);
        if starts_run {
            tokio::spawn(Arc::clone(self).run_prefetch());
        }
        if !is_complete {
            // The rest is prefetched when this path is requested again.
            if let Some(entry) = self.entries().find(&hash) {
                entry.prefetched = false;
            }
        }
    }

    /// Waits for the next prefetched path that was not cached before. Cancel safe.
    pub(crate) async fn next_prefetched(&self) -> Option<Arc<ValidPath>> {
        self.prefetch_queue.receiver.lock().await.recv().await
    }

    async fn run_prefetch(self: Arc<Self>) {
        let run = Run(&self.prefetch_queue);
        while let Some(paths) = self.prefetch_queue.next() {
            match self.query_batch(paths, BUSY_ATTEMPTS).await {
                Ok(replies) => {
                    for BatchReply { result, is_new, .. } in replies {
                        let Ok(Some(valid)) = result else { continue };
                        self.metrics.narinfo_cache.record_prefetched();
                        if is_new {
                            self.prefetch_references(&valid);
                            // If the channel is full, this path is processed when it is requested.
                            drop(self.prefetch_queue.sender.try_send(valid));
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!("prefetching stopped: {error}");
                    return;
                }
            }
        }
        // The queue has already ended this run, and another may have started.
        std::mem::forget(run);
    }
}
