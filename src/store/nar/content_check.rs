//! Whether a path has the contents that its content address names, where that takes reading them; and whether the files
//! here are what the daemon says of them.
//!
//! What is read is bounded; whether the bytes are those of the path info is proven by [`VerifyingNar`](super::VerifyingNar), as for every
//! other reader.

use std::sync::Arc;

use harmonia_protocol::content_check::ContentCheck;
use harmonia_protocol::operation::QueryAllValidPaths;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::nar::options::NarOptions;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// The largest NAR that is read for it, in bytes. Longer ones are source archives for the most part, which whoever wants
/// them can also get from where they came from.
const MAX_NAR: u64 = 64 << 20;
/// Paths of which the smallest is read to compare its files.
const COMPARED: usize = 64;

impl Store {
    /// Whether the contents of this path, whose content address it follows from, are those that the address names; no if
    /// they are too large to be read for that. Dropping the future ends the reading.
    pub async fn matches_content_address(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<bool, StoreError> {
        let check = valid.info.to_path_info().content_address.as_ref().and_then(ContentCheck::new);
        let Some(mut check) = check.filter(|_| valid.info.nar_size <= MAX_NAR) else { return Ok(false) };
        let mut nar = self.nar(valid, NarOptions::for_cache(), client).await?;
        while let Some(bytes) = nar.chunk().await? {
            check.update(&bytes);
        }
        Ok(check.matches())
    }

    /// Compares the files of a small path with what the daemon says of it: which one, and whether they are that or why not.
    /// `None` if NARs are not read from files, or none of the paths that were looked at is visible here.
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
