//! Paths by the hash of their NAR, among cached ones: nix-daemon has no such query.

use crate::fairness::ClientId;
use crate::store::path_info::cache::SCAN_STEP;
use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;
use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

/// Upper bound of results. Very many paths share the NAR of an empty directory, and one is enough.
const MAX_WITH_NAR: usize = 64;

impl PathInfoCache {
    /// Returns cached paths that are `wanted` and whose NAR has this hash, about [`MAX_WITH_NAR`] at most. Scans all
    /// entries, in steps between which it releases the lock.
    pub(crate) fn with_nar(&self, nar_hash: &NarHash, wanted: impl Fn(&ValidPath) -> bool) -> Vec<HashPart> {
        let (mut found, mut end) = (Vec::new(), usize::MAX);
        // One scan at a time.
        let _looking = self.scanning.lock();
        while end > 0 && found.len() < MAX_WITH_NAR {
            let with_it: Vec<_> = {
                let known = self.entries();
                let (values, first) = known.before(end, SCAN_STEP);
                end = first;
                let valid = values.map(|known| &known.valid);
                valid.filter(|valid| valid.info.nar_hash == *nar_hash).map(Arc::clone).collect()
            };
            found.extend(with_it.iter().filter(|valid| wanted(valid)).map(|valid| valid.path.hash_part()));
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
        let known = {
            // The semaphore is never closed.
            let _permit = self.lookups.acquire().await;
            tokio::task::block_in_place(|| self.path_infos.with_nar(hash, &wanted))
        };
        for path in known {
            let valid = self.valid_path(path, client).await?;
            if let Some(valid) = valid.filter(|valid| valid.info.nar_hash == *hash && wanted(valid)) {
                return Ok(Some(valid));
            }
        }
        Ok(None)
    }
}
