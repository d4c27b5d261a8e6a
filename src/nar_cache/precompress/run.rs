//! The task that precompresses queued NARs.

use std::sync::Arc;
use std::time::Duration;

use crate::fairness::ClientId;
use crate::metrics::NarCacheEvent;
use crate::nar_cache::cache::NarCache;
use crate::nar_cache::fill::fills::Joined;

/// Interval at which work without a waiting client checks whether the encoders are idle.
const IDLE_CHECK: Duration = Duration::from_secs(1);

impl NarCache {
    /// Fills the cache with queued NARs. Never returns.
    pub async fn run_precompress(self: &Arc<Self>) {
        loop {
            // The semaphore is never closed.
            let permit = Arc::clone(&self.precompress_permits).acquire_owned().await;
            let candidate = self.precompress.next().await;
            let cache = Arc::clone(self);
            tokio::spawn(async move {
                let _permit = permit;
                // NARs that no client is known to want are compressed when there is nothing else to do.
                while candidate.client == ClientId::Server && !cache.fills.is_empty() {
                    tokio::time::sleep(IDLE_CHECK).await;
                }
                match cache.find_or_fill(&candidate.key, &candidate.valid, ClientId::Server).await {
                    Ok(Joined::Running(mut progress) | Joined::Started(mut progress)) => {
                        cache.metrics.nar_cache.record(NarCacheEvent::Precompressed);
                        // A failure is reported to the client that requests the NAR.
                        let _ = progress.wait_for(|progress| progress.end.is_some()).await;
                    }
                    // Nothing was compressed that a client would have to fetch.
                    Ok(Joined::Finished(_)) | Err(_) => cache.precompress.mark_fetched(&candidate.key),
                }
            });
        }
    }
}
