//! Choice of a store path to try out the cache with.

use std::sync::Arc;

use harmonia_protocol::operation::QueryAllValidPaths;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Number of paths examined, with one query each. In the order of their hashes they are a random sample, which has some
/// outputs.
const SAMPLE_SIZE: usize = 64;

impl Store {
    /// Returns some valid path, or `None` if the store is empty.
    pub async fn any_valid_path(&self) -> Result<Option<Arc<ValidPath>>, StoreError> {
        match self.pool.call(ClientId::Server, &QueryAllValidPaths).await?.first() {
            Some(path) => self.path_infos.valid_path(path.hash_part(), ClientId::Server).await,
            None => Ok(None),
        }
    }

    /// Chooses a valid path that is quick to copy: preferably built, with few references, and small. `None` if the
    /// store has only derivations, or nothing.
    pub async fn example_path(&self) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let paths = self.pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        let mut best = None;
        for path in paths.iter().filter(|path| !path.is_derivation()).take(SAMPLE_SIZE) {
            let Some(valid) = self.valid_path(path.hash_part(), ClientId::Server).await? else { continue };
            let rank = rank(&valid);
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                best = Some((rank, valid));
            }
        }
        Ok(best.map(|(_, valid)| valid))
    }
}

/// Returns a sort key, the smallest of which is preferred: not built, number of references, NAR size in bytes.
fn rank(valid: &ValidPath) -> (bool, usize, u64) {
    let info = valid.info.to_path_info();
    let others = info.references.iter().filter(|reference| **reference != valid.path).count();
    (info.deriver.is_none(), others, info.nar_size)
}
