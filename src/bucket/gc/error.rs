//! Reasons why a garbage collection stops.

use crate::bucket::engine::BucketError;
use crate::bucket::object_name::RunId;

/// Reason why a run stops. What it has begun is completed by the next one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GcError {
    /// A request failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Another run has the lease.
    #[error("garbage collection {0} is being run by {1}\n  help: run the command again when it has ended")]
    Busy(RunId, String),
    /// A run stopped before its end.
    #[error("garbage collection {0} has not ended\n  help: run harmonia bucket gc, which goes on with it")]
    Unfinished(RunId),
    /// The lease was not renewed in time, or somebody else has taken it.
    #[error("lost the lease of garbage collection {0}\n  help: run the command again, which goes on with it")]
    Lost(RunId),
    /// Listings of the server lack objects.
    #[error(
        "nothing was deleted: the server does not list {0}, which is there\n  help: repair the object store, and run the command again"
    )]
    Listing(String),
    /// An object that says what is kept cannot be used.
    #[error("nothing was deleted: {object}: {cause}\n  help: remove it, or put it again")]
    Object {
        /// Name of the object.
        object: String,
        /// The reason.
        cause: String,
    },
    /// More than one run can hold in memory.
    #[error("nothing was deleted: the bucket has more than {0} {1}")]
    TooMany(usize, &'static str),
    /// Random numbers or compression.
    #[error("nothing was deleted: {0}")]
    System(String),
}
