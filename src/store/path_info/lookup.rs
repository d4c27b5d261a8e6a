//! Lookups of store paths by their hash part.

use harmonia_protocol::operation::QueryAllValidPaths;
use harmonia_protocol::{HashPart, StorePath};
use std::sync::Arc;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::index::change_time::ChangeTime;
use crate::store::path_info::valid_path::SignatureLines;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Status of the path of a hash part.
#[derive(Debug, Clone)]
pub enum PathStatus {
    /// nix-daemon says that it is valid.
    Valid(Arc<ValidPath>),
    /// nix-daemon says that it is valid, but it is quarantined because its NAR does not match its path info.
    Quarantined(Arc<ValidPath>),
    /// An operator hides it, by its hash part or by what it refers to; with the path if it is valid.
    Hidden(Option<Arc<ValidPath>>),
    /// nix-daemon says that there is no such path.
    NotValid,
}

impl PathStatus {
    /// Returns the path if it is valid and neither quarantined nor hidden.
    #[must_use]
    pub fn valid(self) -> Option<Arc<ValidPath>> {
        match self {
            Self::Valid(valid) => Some(valid),
            Self::Quarantined(_) | Self::Hidden(_) | Self::NotValid => None,
        }
    }
}

impl Store {
    /// Records that a narinfo was served: protects the path from the garbage collector for a while, and prefetches its
    /// references.
    pub fn record_served(&self, valid: &Arc<ValidPath>) {
        if let Some(gc_roots) = &self.gc_roots {
            gc_roots.extend(valid);
        }
        self.prefetch_references(valid);
    }

    /// Caches our signatures of a path with its path info.
    pub fn cache_signature_lines(&self, valid: &ValidPath, by: &Arc<()>, signed: SignatureLines) {
        self.path_infos.cache_signature_lines(valid, by, signed);
    }

    /// Prefetches the path infos of a path's references in the background.
    pub fn prefetch_references(&self, valid: &ValidPath) {
        self.path_infos.prefetch_references(valid);
    }

    /// Waits for the next prefetched path that was not cached before; `None` at shutdown. Paths are dropped if they are
    /// not taken fast enough.
    pub async fn next_prefetched(&self) -> Option<Arc<ValidPath>> {
        self.path_infos.next_prefetched().await
    }

    /// Returns all valid paths.
    pub(crate) async fn all_paths(&self) -> Result<Vec<StorePath>, StoreError> {
        self.pool.call(ClientId::Server, &QueryAllValidPaths).await
    }

    /// Returns the hash parts of all valid paths.
    pub async fn all_hash_parts(&self) -> Result<Vec<HashPart>, StoreError> {
        Ok(self.all_paths().await?.iter().map(StorePath::hash_part).collect())
    }

    /// Returns when an entry of the store directory was last added or removed; `None` if that is not visible.
    #[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "the bucket needs it"))]
    pub(crate) async fn changed(&self) -> Result<Option<ChangeTime>, StoreError> {
        self.on_disk(ChangeTime::of_store).await
    }

    /// Returns the base name of the path with this hash part, if it is cached.
    #[must_use]
    pub fn cached_name(&self, hash: HashPart) -> Option<String> {
        self.path_infos.cached_name(hash)
    }

    /// Returns the valid path of a hash part, or `None` if nix-daemon says that there is none or the path is
    /// quarantined or hidden. Uses the cache.
    pub async fn valid_path(&self, hash: HashPart, client: ClientId) -> Result<Option<Arc<ValidPath>>, StoreError> {
        Ok(self.path_status(hash, client).await?.valid())
    }

    /// Returns the status of a hash part. Uses the cache.
    pub async fn path_status(&self, hash: HashPart, client: ClientId) -> Result<PathStatus, StoreError> {
        let status = match self.path_infos.valid_path(hash, client).await? {
            // The path info may have changed since the path was quarantined.
            Some(valid) if self.quarantine.contains(&valid) => return self.fresh_path_status(hash, client).await,
            Some(valid) => PathStatus::Valid(valid),
            None => PathStatus::NotValid,
        };
        if self.has_hidden() { Box::pin(self.unless_hidden(hash, status, client)).await } else { Ok(status) }
    }

    /// Returns the status of a hash part by a query of nix-daemon, without the cache.
    pub async fn fresh_path_status(&self, hash: HashPart, client: ClientId) -> Result<PathStatus, StoreError> {
        let status = match self.path_infos.query(hash, None, client).await? {
            Some(valid) if self.quarantine.contains(&valid) => PathStatus::Quarantined(valid),
            Some(valid) => PathStatus::Valid(valid),
            None => PathStatus::NotValid,
        };
        if self.has_hidden() { Box::pin(self.unless_hidden(hash, status, client)).await } else { Ok(status) }
    }

    /// Looks up at most 64 paths, in their order. Those that are not cached are queried in one pipeline.
    pub async fn valid_paths(
        &self,
        paths: &[StorePath],
        client: ClientId,
    ) -> Vec<Result<Option<Arc<ValidPath>>, StoreError>> {
        self.path_infos.valid_paths(paths, client).await
    }

    /// Returns whether this path is quarantined.
    #[must_use]
    pub fn is_quarantined(&self, valid: &ValidPath) -> bool {
        self.quarantine.contains(valid)
    }
}
