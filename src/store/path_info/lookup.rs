//! Answers to the question whether a hash part is of a path that may be given out.

use harmonia_protocol::operation::QueryAllValidPaths;
use harmonia_protocol::{HashPart, StorePath};
use std::sync::Arc;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::valid_path::SignatureLines;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// The state of the path that has some hash part.
#[derive(Debug, Clone)]
pub enum PathStatus {
    /// The daemon says that it is valid, and nothing speaks against it.
    Valid(Arc<ValidPath>),
    /// The daemon says that it is valid, but its NAR is not what its path info says: it is held back.
    Quarantined(Arc<ValidPath>),
    /// The daemon says that there is none.
    NotValid,
}

impl PathStatus {
    /// The path, if it is valid and not held back.
    #[must_use]
    pub fn valid(self) -> Option<Arc<ValidPath>> {
        match self {
            Self::Valid(valid) => Some(valid),
            Self::Quarantined(_) | Self::NotValid => None,
        }
    }
}

impl Store {
    /// Takes note that a client has been told of a path: keeps it alive for a while, and does as [`Self::ask_ahead`].
    pub fn record_served(&self, valid: &Arc<ValidPath>) {
        if let Some(gc_roots) = &self.gc_roots {
            gc_roots.extend(valid);
        }
        self.prefetch_references(valid);
    }

    /// Keeps what has been made of a path for as long as what is known of the path.
    pub fn cache_signature_lines(&self, valid: &ValidPath, by: &Arc<()>, signed: SignatureLines) {
        self.path_infos.cache_signature_lines(valid, by, signed);
    }

    /// Expects requests for the references of a path: asks the daemon about them in the background.
    pub fn prefetch_references(&self, valid: &ValidPath) {
        self.path_infos.prefetch_references(valid);
    }

    /// Waits for the next path that has become known before anybody asked for it. There is no next one only at the end of
    /// the program. One that nobody waits for is not told of when there are many.
    pub async fn next_prefetched(&self) -> Option<Arc<ValidPath>> {
        self.path_infos.next_prefetched().await
    }

    /// The hash parts of all valid paths.
    pub async fn all_hash_parts(&self) -> Result<Vec<HashPart>, StoreError> {
        let paths = self.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        Ok(paths.iter().map(StorePath::hash_part).collect())
    }

    /// The base name of the path with this hash part, if that is known without a question.
    #[must_use]
    pub fn cached_name(&self, hash: HashPart) -> Option<String> {
        self.path_infos.cached_name(hash)
    }

    /// The valid path that has this hash part; `None` if the daemon says that there is none, or if it is held back because
    /// its NAR is wrong. What the daemon said before is used while it is known to hold.
    pub async fn valid_path(&self, hash: HashPart, client: ClientId) -> Result<Option<Arc<ValidPath>>, StoreError> {
        Ok(self.path_status(hash, client).await?.valid())
    }

    /// Tells a hash part of no valid path from one whose path is held back. What the daemon said before is used while it is
    /// known to hold.
    pub async fn path_status(&self, hash: HashPart, client: ClientId) -> Result<PathStatus, StoreError> {
        match self.path_infos.valid_path(hash, client).await? {
            // What is held back is what the daemon said, which it may not say any more.
            Some(valid) if self.quarantine.contains(&valid) => self.fresh_path_status(hash, client).await,
            Some(valid) => Ok(PathStatus::Valid(valid)),
            None => Ok(PathStatus::NotValid),
        }
    }

    /// Does as [`Self::look_up`], by what the daemon says now.
    pub async fn fresh_path_status(&self, hash: HashPart, client: ClientId) -> Result<PathStatus, StoreError> {
        Ok(match self.path_infos.ask(hash, None, client).await? {
            Some(valid) if self.quarantine.contains(&valid) => PathStatus::Quarantined(valid),
            Some(valid) => PathStatus::Valid(valid),
            None => PathStatus::NotValid,
        })
    }
    /// Looks up these paths, up to 64, in their order: those that are not known are asked about together.
    pub async fn valid_paths(
        &self,
        paths: &[StorePath],
        client: ClientId,
    ) -> Vec<Result<Option<Arc<ValidPath>>, StoreError>> {
        self.path_infos.valid_paths(paths, client).await
    }

    /// Whether nobody is to be told of this path, because its NAR is wrong.
    #[must_use]
    pub fn is_quarantined(&self, valid: &ValidPath) -> bool {
        self.quarantine.contains(valid)
    }
}
