//! Claims the bucket for our store directory before anything is published.

use super::obstacle::Interruption;
use crate::bucket::state::Bucket;

impl Bucket {
    /// Checks that the bucket is of our store directory, and makes it so if it is of none. Looks now and then.
    pub(super) async fn check_cache_info(&self) -> Result<(), Interruption> {
        if self.publishing.has_cache_info() {
            return Ok(());
        }
        let claimed = self.store.claim(&self.directory, self.priority).await?;
        claimed.map_err(|theirs| Interruption::OtherStore { theirs, ours: self.directory.clone() })?;
        self.publishing.set_cache_info();
        Ok(())
    }
}
