//! Futures with a deadline.

use crate::store::daemon::deadline::Deadline;
use crate::store::error::StoreError;

impl Deadline {
    /// Runs `work` up to the deadline.
    pub(crate) async fn enforce<T, E: Into<StoreError>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.duration(), work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(StoreError::Timeout(self)),
        }
    }
}
