//! NARs of valid paths, opened by what is to be done with them.

use std::sync::Arc;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::Held;
use crate::store::nar::events::NarEvents;
use crate::store::nar::verifying::VerifyingNar;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

impl Store {
    /// Begins to read the NAR of a valid path, to be hashed or not as the configuration says. The garbage collector leaves
    /// the path alone until the result is dropped.
    pub async fn nar(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<VerifyingNar, StoreError> {
        let held = self.hold(valid).await?;
        Ok(self.nars.whole(valid, client).await?.holding(held))
    }

    /// The same, and hashes it in any case: what is made of it is kept for longer than this program remembers.
    pub async fn nar_for_keeping(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<VerifyingNar, StoreError> {
        let held = self.hold(valid).await?;
        Ok(self.nars.hashed(valid, client).await?.holding(held))
    }

    /// Begins to tell what is in the NAR of a valid path, on the terms of [`Self::nar`].
    pub async fn nar_events(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarEvents, StoreError> {
        let held = self.hold(valid).await?;
        Ok(NarEvents::of(self.nars.to_index(valid, client).await?.holding(held)))
    }

    /// So many bytes of the NAR from `first` on, if the store's files are to be read and no others have to be read first.
    pub async fn nar_part_at_hand(
        &self,
        valid: &Arc<ValidPath>,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Option<VerifyingNar> {
        let part = self.nars.part_at_hand(valid, first, length, client).await?;
        Some(part.holding(self.hold(valid).await.ok()?))
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
        let held = self.hold(valid).await?;
        Ok(self.nars.part(valid, first, length, client).await?.holding(held))
    }

    /// Keeps a path from the garbage collector, where that is wanted; an error says that it is not valid any more.
    async fn hold(&self, valid: &Arc<ValidPath>) -> Result<Option<Held>, StoreError> {
        match &self.lease {
            Some(lease) => lease.hold(valid).await.map(Some),
            None => Ok(None),
        }
    }
}
