//! A path to try a cache with, for somebody who has not thought of one.

use std::sync::Arc;

use harmonia_protocol::operation::QueryAllValidPaths;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Paths that are looked at, a question to the daemon each. They come in the order of their hashes, which is as good as
/// none, so that among so many of any store there are outputs.
const LOOKED_AT: usize = 64;

impl Store {
    /// Some valid path, to see whether the daemon tells about paths; `None` if the store is empty.
    pub async fn any_valid_path(&self) -> Result<Option<Arc<ValidPath>>, StoreError> {
        match self.pool.call(ClientId::Server, &QueryAllValidPaths).await?.first() {
            Some(path) => self.path_infos.valid_path(path.hash_part(), ClientId::Server).await,
            None => Ok(None),
        }
    }

    /// Chooses a valid path that is no derivation and quick to copy: built rather than added, with few references, small.
    /// `None` if nothing was built or added yet.
    pub async fn example_path(&self) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let paths = self.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        let mut best = None;
        for path in paths.iter().filter(|path| !path.is_derivation()).take(LOOKED_AT) {
            let Some(valid) = self.valid_path(path.hash_part(), ClientId::Server).await? else { continue };
            let rank = rank(&valid);
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                best = Some((rank, valid));
            }
        }
        Ok(best.map(|(_, valid)| valid))
    }
}

/// Orders paths from the one that is tried first.
fn rank(valid: &ValidPath) -> (bool, usize, u64) {
    let info = valid.info.to_path_info();
    let others = info.references.iter().filter(|reference| **reference != valid.path).count();
    (info.deriver.is_none(), others, info.nar_size)
}
