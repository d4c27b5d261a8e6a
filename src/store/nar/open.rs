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
    /// Opens the NAR of a valid path. With GC protection, the path has a GC root until the result is dropped.
    ///
    /// The options' range is read alone if possible, else the NAR is read from its beginning;
    /// [`VerifyingNar::first`] tells which.
    pub async fn nar(
        &self,
        valid: &Arc<ValidPath>,
        options: NarOptions,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let root = self.root(valid).await?;
        Ok(self.nar_opener.open(valid, options, client).await?.with_root(root))
    }

    /// Opens a range of a NAR, if it can be read from the store's files without verifying the NAR first.
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

    /// Acquires a GC root for the path; `None` without GC protection. Fails if the path is no longer valid.
    async fn root(&self, valid: &Arc<ValidPath>) -> Result<Option<RootGuard>, StoreError> {
        match &self.gc_roots {
            Some(gc_roots) => gc_roots.protect(valid).await.map(Some),
            None => Ok(None),
        }
    }
}
