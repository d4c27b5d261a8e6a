//! Asking about references before clients do: whoever was given a narinfo asks for those of its references next.
//!
//! Owns the queue and its bounds. References are whole paths, so that one question each is enough, and many go out at
//! once on one connection. What was not known at all has references of its own, which join the queue: by the time a client
//! has walked to the second level of a closure most of it is known. What was known and has aged is asked about only if it
//! is a reference of what was served: a client that asks for one narinfo every minute does not refresh a whole closure.
//!
//! It is never in the way of a request: it takes a connection only if another one stays free, one at a time, gives it
//! back after each batch, and drops everything where it finds none for a while or the daemon fails.

use std::sync::Arc;

use harmonia_protocol::StorePath;

use crate::store::path_info::batch::BatchReply;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::prefetch_queue::{Offered, PrefetchQueue};
use crate::store::path_info::valid_path::ValidPath;

/// Number of times that a free connection is looked for.
const BUSY_ATTEMPTS: usize = 100;

/// Ends a run of questions when it is dropped, be it by a panic: what is offered next begins another.
struct Run<'a>(&'a PrefetchQueue);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl PathInfoCache {
    /// Asks in the background about the references of a path that has just been given out, as far as they are not known.
    pub(crate) fn prefetch_references(self: &Arc<Self>, valid: &ValidPath) {
        let hash = valid.path.hash_part();
        let unknown: Vec<_> = {
            let mut known = self.entries();
            match known.find(&hash) {
                Some(entry) if !entry.prefetched => entry.prefetched = true,
                _ => return,
            }
            // With a ttl of 0 nothing that is asked ahead would ever be used.
            let wanted = |path: &StorePath| {
                let is_within_ttl = known.peek(&path.hash_part()).is_some_and(|known| self.is_within_ttl(known));
                *path != valid.path && !is_within_ttl && !self.ttl().is_zero()
            };
            valid.info.reference_paths().filter(wanted).collect()
        };
        let Offered { is_whole, begins } = self.prefetch_queue.offer(unknown);
        if begins {
            tokio::spawn(Arc::clone(self).run_prefetch());
        }
        if !is_whole {
            // The rest is for when this is asked for again.
            if let Some(entry) = self.entries().find(&hash) {
                entry.prefetched = false;
            }
        }
    }

    /// The next path that was not known and has been learned of; safe to drop.
    pub(crate) async fn next_prefetched(&self) -> Option<Arc<ValidPath>> {
        self.prefetch_queue.told.lock().await.recv().await
    }

    async fn run_prefetch(self: Arc<Self>) {
        let run = Run(&self.prefetch_queue);
        while let Some(paths) = self.prefetch_queue.next() {
            match self.query_batch(paths, BUSY_ATTEMPTS).await {
                Ok(answers) => {
                    for BatchReply { answer, is_new, .. } in answers {
                        let Ok(Some(valid)) = answer else { continue };
                        self.metrics.narinfo_cache.record_prefetched();
                        if is_new {
                            self.prefetch_references(&valid);
                            // With many of them untaken, this one is made something of when it is asked for.
                            drop(self.prefetch_queue.learned.try_send(valid));
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!("not asking ahead: {error}");
                    return;
                }
            }
        }
        // It has ended by itself, and another may have begun.
        std::mem::forget(run);
    }
}
