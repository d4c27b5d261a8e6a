//! Opening the NAR of a valid path.

use std::ops::Range;
use std::sync::Arc;

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::RootGuard;
use crate::store::nar::events::NarEvents;
use crate::store::nar::options::NarOptions;
use crate::store::nar::verifying::VerifyingNar;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

impl Store {
    /// Opens the NAR of a valid path. The path is protected from the garbage collector until the result is dropped.
    ///
    /// If the options have a range, the result begins at [`VerifyingNar::first`]: at the range if that can be read alone, and
    /// else at the beginning of the NAR.
    pub async fn nar(
        &self,
        valid: &Arc<ValidPath>,
        options: NarOptions,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let root = self.root(valid).await?;
        Ok(self.nar_opener.open(valid, options, client).await?.with_root(root))
    }

    /// Opens a range of a NAR if it can be read from the store's files now, without reading anything else first.
    pub async fn verified_range(
        &self,
        valid: &Arc<ValidPath>,
        range: Range<u64>,
        client: ClientId,
    ) -> Option<VerifyingNar> {
        let nar = self.nar_opener.verified_range(valid, &range, client).await?;
        Some(nar.with_root(self.root(valid).await.ok()?))
    }

    /// Opens the NAR of a valid path to list its contents.
    pub async fn nar_events(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<NarEvents, StoreError> {
        Ok(NarEvents::new(self.nar(valid, NarOptions::for_listing(), client).await?))
    }

    /// Protects a path from the garbage collector, if that is configured. Fails if the path is not valid any more.
    async fn root(&self, valid: &Arc<ValidPath>) -> Result<Option<RootGuard>, StoreError> {
        match &self.gc_roots {
            Some(gc_roots) => gc_roots.hold(valid).await.map(Some),
            None => Ok(None),
        }
    }
}
