//! Paths that nix-daemon's garbage collector keeps.

use harmonia_protocol::StorePath;
use harmonia_protocol::operation::FindRoots;

use super::state::Store;
use crate::fairness::ClientId;
use crate::store::error::StoreError;

impl Store {
    /// Returns the targets of all GC roots. What these refer to is kept too.
    #[cfg_attr(not(feature = "bucket"), expect(dead_code, reason = "only the bucket asks"))]
    pub(crate) async fn rooted(&self) -> Result<Vec<StorePath>, StoreError> {
        let roots = self.pool.call(ClientId::Server, &FindRoots).await?;
        Ok(roots.into_iter().map(|root| root.target).collect())
    }
}
