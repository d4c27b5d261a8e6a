//! Long-running tasks that do work before a client requests it. None of them ends by itself.

use std::collections::HashSet;
use std::time::Duration;

use harmonia_protocol::HashPart;

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::handlers::narinfo;
use crate::nar_cache::NarCache;

/// Time between two queries of all valid paths, where new ones are precompressed.
const NEW_PATHS_INTERVAL: Duration = Duration::from_secs(10);

impl App {
    /// Signs prefetched paths, whose narinfos clients are expected to request next: signing takes most of the time of a
    /// narinfo.
    pub(crate) async fn sign_prefetched(&self) {
        while let Some(valid) = self.store.next_prefetched().await {
            narinfo::sign_prefetched(self, &valid).await;
        }
    }

    /// Compresses NARs that clients are expected to request.
    pub(crate) async fn precompress(&self) {
        match &self.nar_cache {
            Some(cache) if cache.precompresses_new() => {
                tokio::join!(cache.run_precompress(), self.expect_new_paths(cache));
            }
            Some(cache) => cache.run_precompress().await,
            None => {}
        }
    }

    /// Compresses the NARs of paths that an operator named.
    pub(crate) async fn fill_warm_queue(&self) {
        if let Some(cache) = &self.nar_cache {
            cache.run_warm_queue().await;
        }
    }

    /// Renews and removes the GC roots of pushed paths.
    pub(crate) async fn keep_pushed(&self) {
        if let Some(uploads) = &self.uploads {
            uploads.pusher().run_keep().await;
        }
    }

    /// Removes uploads whose narinfo does not come.
    pub(crate) async fn remove_idle_uploads(&self) {
        if let Some(uploads) = &self.uploads {
            uploads.spool().remove_idle().await;
        }
    }

    /// Publishes queued paths, and with `bucket.publish = "all"` new ones.
    pub(crate) async fn publish(&self) {
        if let (Some(bucket), Some(nars)) = (&self.bucket, &self.nar_cache) {
            let signer = || self.signer.load_full();
            tokio::join!(bucket.run_publishing(&self.store, nars, signer), bucket.publish_new_paths(&self.store));
        }
    }

    /// Tells other hosts that this one is there.
    pub(crate) async fn announce_host(&self) {
        if let (Some(bucket), Some(nars)) = (&self.bucket, &self.nar_cache) {
            bucket.announce_host(nars.tag()).await;
        }
    }

    /// Precompresses the NAR of every new path in the store.
    async fn expect_new_paths(&self, cache: &NarCache) {
        let mut known: Option<HashSet<HashPart>> = None;
        loop {
            if let Ok(paths) = self.store.all_hash_parts().await {
                let all: HashSet<_> = paths.into_iter().collect();
                for hash in known.iter().flat_map(|known| all.difference(known)) {
                    if let Ok(valid) = self.any_valid_path(*hash).await {
                        cache.precompress(&valid, ClientId::Server);
                    }
                }
                known = Some(all);
            }
            tokio::time::sleep(NEW_PATHS_INTERVAL).await;
        }
    }
}
