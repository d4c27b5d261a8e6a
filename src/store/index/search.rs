//! Lookups of debug info by build ID.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::time::{Instant, timeout_at};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::index::build_id::BuildId;
use crate::store::index::change_time::ChangeTime;
use crate::store::index::debug_files;
use crate::store::index::debug_info::LABEL;
use crate::store::index::entries::MAX_CANDIDATES;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Time limit of a lookup that waits for scans, which take well below a second, except the first one of a large store.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Returns a `wanted` valid path, of those whose hash parts are `visible`, that has the file [`BuildId::member`], or
    /// `None` if there is none or the store is not visible. Requires [`Self::index_debug_info`] to run. A scan that a dropped future requested continues.
    pub async fn find_debug_info(
        &self,
        id: &BuildId,
        visible: impl Fn(HashPart) -> bool,
        wanted: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let index = &self.debug_info;
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        let mut scans = index.scans.subscribe();
        let begun = scans.borrow().begun;
        loop {
            let Some(changed) = self.on_disk(ChangeTime::of_store).await? else { return Ok(None) };
            // Read before the index, which then has everything these scans found.
            let now = scans.borrow_and_update().clone();
            let verdict = now.verdict(begun, changed, Instant::now());
            let candidates = index.entries.candidates(id, &visible);
            for hash in &candidates {
                let Some(valid) = self.valid_path(*hash, client).await? else { continue };
                // Another path may have taken its place.
                if wanted(&valid) && self.has_debug_info(&valid, id).await? {
                    return Ok(Some(valid));
                }
            }
            match verdict {
                Some(Ok(())) if candidates.len() == MAX_CANDIDATES => {
                    return Err(StoreError::TooManyPaths { what: LABEL, max: MAX_CANDIDATES });
                }
                Some(Ok(())) => return Ok(None),
                Some(Err(error)) => return Err(error),
                // The scan in progress may be enough.
                None if now.is_running() => {}
                None => index.wanted.notify_one(),
            }
            if timeout_at(deadline, scans.changed()).await.is_err() {
                return Err(StoreError::IndexNotReady { what: LABEL, seconds: LOOKUP_TIMEOUT.as_secs() });
            }
        }
    }

    /// Returns whether a valid path has debug info for this build ID.
    async fn has_debug_info(&self, valid: &ValidPath, id: &BuildId) -> Result<bool, StoreError> {
        let (path, id) = (valid.path.clone(), id.clone());
        self.on_disk(move |directory| debug_files::has_debug_info(directory, &path, &id)).await
    }
}
