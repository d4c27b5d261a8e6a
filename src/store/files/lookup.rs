//! Lookups of files below valid paths, and of build logs.

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::files::build_log::BuildLog;
use crate::store::files::tree::Found;
use crate::store::files::{build_log, tree};
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;
use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Name;
use std::sync::Arc;

impl Store {
    /// Returns the file or directory at `names` below a valid path of a visible store, and the valid path that it is
    /// in; `None` if it does not exist, or a symlink leads out of the store, or to a path that is invalid or whose hash
    /// part is not `visible`.
    pub async fn find_file(
        &self,
        valid: &Arc<ValidPath>,
        names: &[Name],
        visible: impl Fn(HashPart) -> bool,
        client: ClientId,
    ) -> Result<Option<(Found, Arc<ValidPath>)>, StoreError> {
        let look = || tree::find(&self.directory, &self.real_directory, &valid.path, names, &visible);
        let found = {
            // The semaphore is never closed.
            let _permit = self.lookups.acquire().await;
            tokio::task::block_in_place(look)?
        };
        let Some(found) = found else { return Ok(None) };
        if found.store_path == valid.path {
            return Ok(Some((found, Arc::clone(valid))));
        }
        let other = self.valid_path(found.store_path.hash_part(), client).await?;
        Ok(other.filter(|other| other.path == found.store_path).map(|other| (found, other)))
    }

    /// Returns the build log of the derivation with this hash part, or of the derivation of the output that has it.
    pub async fn build_log(&self, hash: HashPart, client: ClientId) -> Result<Option<BuildLog>, StoreError> {
        if self.hides_log(hash, client).await? {
            return Ok(None);
        }
        let find = |derivation| tokio::task::block_in_place(|| build_log::find(&self.log_dir, derivation));
        if let Some(log) = find(hash)? {
            return Ok(Some(log));
        }
        match self.path_infos.valid_path(hash, client).await?.and_then(|valid| valid.info.to_path_info().deriver) {
            Some(deriver) if self.hides_log(deriver.hash_part(), client).await? => Ok(None),
            Some(deriver) => find(deriver.hash_part()),
            None => Ok(None),
        }
    }
}
