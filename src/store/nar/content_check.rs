//! Comparison of a path's contents with its content address, and of visible files with nix-daemon's path info.
//!
//! What is read is bounded; whether the bytes are those of the path info is proven by
//! [`VerifyingNar`](super::VerifyingNar), as for every other reader.

use std::sync::Arc;

use harmonia_protocol::content_check::ContentCheck;
use harmonia_protocol::operation::QueryAllValidPaths;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::nar::options::NarOptions;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Upper bound of a NAR that is read for this, in bytes. Larger ones are mostly source archives, which clients can
/// download from their origin.
const MAX_NAR: u64 = 64 << 20;
/// Number of paths of which the smallest is compared.
const COMPARED: usize = 64;

impl Store {
    /// Returns whether the contents of this path match its content address; `false` if they are too large to be read.
    /// Dropping the future stops reading.
    pub async fn matches_content_address(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<bool, StoreError> {
        let check = valid.info.to_path_info().content_address.as_ref().and_then(ContentCheck::new);
        let Some(mut check) = check.filter(|_| valid.info.nar_size <= MAX_NAR) else { return Ok(false) };
        let mut nar = self.nar(valid, NarOptions::for_cache(), client).await?;
        while let Some(bytes) = nar.chunk().await? {
            check.update(&bytes);
        }
        Ok(check.matches())
    }

    /// Compares the files of a small path with its path info. Returns the path and the result; `None` if NARs are not
    /// read from files, or none of the candidates is visible.
    pub async fn compare_files(&self) -> Result<Option<(Arc<ValidPath>, Result<(), StoreError>)>, StoreError> {
        let mut smallest: Option<Arc<ValidPath>> = None;
        for path in self.pool.call(ClientId::Server, &QueryAllValidPaths).await?.iter().take(COMPARED) {
            let valid = self.path_infos.valid_path(path.hash_part(), ClientId::Server).await?;
            smallest = smallest.into_iter().chain(valid).min_by_key(|valid| valid.info.nar_size);
        }
        let Some(valid) = smallest else { return Ok(None) };
        Ok(self.nar_opener.compare(&valid).await.map(|result| (valid, result)))
    }
}
