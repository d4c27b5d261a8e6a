//! The error of a lookup whose result is not known.

use std::sync::Arc;

use crate::bucket::engine::BucketError;

/// The bucket may have the path, and cannot be asked for it now.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The request failed.
    #[error("{0}")]
    Failed(Arc<BucketError>),
    /// Requests have failed a moment ago, so that none was made.
    #[error("the object store is unreachable")]
    Pausing,
    /// A client was told of it a while ago, and it is not there now: it may be on its way between the servers of the object
    /// store.
    #[error("a path that a client was told of is not in the bucket now")]
    Lagging,
    /// Whoever asked has stopped.
    #[error("the lookup ended without a result")]
    Abandoned,
}

impl From<BucketError> for Unreachable {
    fn from(error: BucketError) -> Self {
        Self::Failed(Arc::new(error))
    }
}
