//! Work with a deadline.

use crate::store::daemon::deadline::Step;
use crate::store::error::StoreError;

impl Step {
    /// Gives `work` the step's time.
    pub(crate) async fn bound<T, E: Into<StoreError>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline(), work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(StoreError::Late(self)),
        }
    }
}
