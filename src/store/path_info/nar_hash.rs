//! Lookups of cached paths by the hash of their NAR, for which nix-daemon has no query.

use crate::fairness::ClientId;
use crate::store::path_info::cache::SCAN_STEP;
use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;
use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

/// Maximal number of candidates: very many paths share the NAR of an empty directory.
const MAX_WITH_NAR: usize = 64;

impl PathInfoCache {
    /// Returns cached paths that are `wanted` and whose NAR has this hash, about [`MAX_WITH_NAR`] at most. Scans all
    /// entries, in steps between which it releases the lock.
    pub(crate) fn with_nar(&self, nar_hash: &NarHash, wanted: impl Fn(&ValidPath) -> bool) -> Vec<HashPart> {
        let (mut found, mut end) = (Vec::new(), usize::MAX);
        // One scan at a time.
        let _scan = self.scanning.lock();
        while end > 0 && found.len() < MAX_WITH_NAR {
            let matching: Vec<_> = {
                let entries = self.entries();
                let (values, first) = entries.before(end, SCAN_STEP);
                end = first;
                let valid = values.map(|entry| &entry.valid);
                valid.filter(|valid| valid.info.nar_hash == *nar_hash).map(Arc::clone).collect()
            };
            found.extend(matching.iter().filter(|valid| wanted(valid)).map(|valid| valid.path.hash_part()));
            std::thread::yield_now();
        }
        found
    }
}

impl Store {
    /// Returns a `wanted` valid path whose NAR has this hash, or `None` if there is none in the cache. A client that
    /// knows the hash of a NAR has it from a narinfo, so that its path is cached.
    pub async fn find_by_nar_hash(
        &self,
        hash: &NarHash,
        wanted: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let candidates = {
            // The semaphore is never closed.
            let _permit = self.lookups.acquire().await;
            tokio::task::block_in_place(|| self.path_infos.with_nar(hash, &wanted))
        };
        for hash_part in candidates {
            let valid = self.valid_path(hash_part, client).await?;
            if let Some(valid) = valid.filter(|valid| valid.info.nar_hash == *hash && wanted(valid)) {
                return Ok(Some(valid));
            }
        }
        Ok(None)
    }
}
