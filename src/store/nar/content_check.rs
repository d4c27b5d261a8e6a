//! Checks that read a NAR: its contents against the content address, and the store's files against nix-daemon.

use std::sync::Arc;

use harmonia_protocol::content_check::ContentCheck;
use harmonia_protocol::operation::QueryAllValidPaths;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::nar::options::NarOptions;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Size of the largest NAR that is checked, in bytes. Larger content-addressed ones are mostly source archives, which
/// clients can fetch from upstream.
const MAX_NAR_SIZE: u64 = 64 << 20;
/// Number of valid paths among which [`Store::compare_files`] picks the smallest.
const CANDIDATES: usize = 64;

impl Store {
    /// Returns whether the contents of the path match its content address, by reading its NAR.
    ///
    /// False if the NAR is larger than 64 MiB, or if the content address cannot be checked by the contents.
    pub async fn matches_content_address(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<bool, StoreError> {
        let check = valid.info.to_path_info().content_address.as_ref().and_then(ContentCheck::new);
        let Some(mut check) = check.filter(|_| valid.info.nar_size <= MAX_NAR_SIZE) else { return Ok(false) };
        let mut nar = self.nar(valid, NarOptions::for_cache(), client).await?;
        while let Some(bytes) = nar.chunk().await? {
            check.update(&bytes);
        }
        Ok(check.matches())
    }

    /// Compares the files of a small path with nix-daemon's path info. Returns the path and the result.
    ///
    /// `None` if NARs are not read from files, the store has no paths, or the chosen path's files cannot be read.
    pub async fn compare_files(&self) -> Result<Option<(Arc<ValidPath>, Result<(), StoreError>)>, StoreError> {
        let mut smallest: Option<Arc<ValidPath>> = None;
        for path in self.pool.call(ClientId::Server, &QueryAllValidPaths).await?.iter().take(CANDIDATES) {
            let valid = self.path_infos.valid_path(path.hash_part(), ClientId::Server).await?;
            smallest = smallest.into_iter().chain(valid).min_by_key(|valid| valid.info.nar_size);
        }
        let Some(valid) = smallest else { return Ok(None) };
        Ok(self.nar_opener.compare(&valid).await.map(|result| (valid, result)))
    }
}
