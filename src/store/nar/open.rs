//! NARs of valid paths, opened by what is to be done with them.

use std::sync::Arc;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::RootGuard;
use crate::store::nar::events::NarEvents;
use crate::store::nar::verifying::VerifyingNar;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

impl Store {
    /// Begins to read the NAR of a valid path, to be hashed or not as the configuration says. The garbage collector leaves
    /// the path alone until the result is dropped.
    pub async fn nar(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<VerifyingNar, StoreError> {
        let root = self.root(valid).await?;
        Ok(self.nar_opener.whole(valid, client).await?.with_root(root))
    }

    /// The same, and hashes it in any case: what is made of it is kept for longer than this program remembers.
    pub async fn nar_for_keeping(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<VerifyingNar, StoreError> {
        let root = self.root(valid).await?;
        Ok(self.nar_opener.hashed(valid, client).await?.with_root(root))
    }

    /// Begins to tell what is in the NAR of a valid path, on the terms of [`Self::nar`].
    pub async fn nar_events(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarEvents, StoreError> {
        let root = self.root(valid).await?;
        Ok(NarEvents::new(self.nar_opener.to_index(valid, client).await?.with_root(root)))
    }

    /// So many bytes of the NAR from `first` on, if the store's files are to be read and no others have to be read first.
    pub async fn nar_part_at_hand(
        &self,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Option<VerifyingNar> {
        let part = self.nar_opener.verified_part(valid, first, length, client).await?;
        Some(part.with_root(self.root(valid).await.ok()?))
    }

    /// A NAR that has these bytes: a part of it, where that can be read alone, else all of it. It is hashed only if they reach
    /// its end, since nothing is proven before.
    pub async fn nar_part(
        &self,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let root = self.root(valid).await?;
        Ok(self.nar_opener.part(valid, first, length, client).await?.with_root(root))
    }

    /// Keeps a path from the garbage collector, where that is wanted; an error says that it is not valid any more.
    async fn root(&self, valid: &Arc<ValidPath>) -> Result<Option<RootGuard>, StoreError> {
        match &self.gc_roots {
            Some(gc_roots) => gc_roots.hold(valid).await.map(Some),
            None => Ok(None),
        }
    }
}
