//! Entries of the path info cache.

use std::sync::Arc;

use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::valid_path::ValidPath;

/// The valid path, or that there is none, or why the daemon cannot say.
pub(crate) type Answer = Result<Option<Arc<ValidPath>>, StoreError>;

/// An answer of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) valid: Arc<ValidPath>,
    /// As the path looked before the daemon was asked; nothing where the store is not visible here.
    pub(crate) stamp: Option<PathStamp>,
    /// When it was asked; nothing if what it said has turned out to be doubtful.
    pub(crate) asked: Option<Instant>,
    /// Whether its references have been looked through.
    pub(crate) prefetched: bool,
}

/// What an answer is good for now.
pub(crate) enum Freshness {
    /// To be used.
    Fresh,
    /// To be used if the daemon does not answer.
    Stale,
    /// For nothing but the path's name.
    Changed,
}

/// When, and with what in sight, the daemon was asked about a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    pub(crate) asked: Instant,
    pub(crate) stamp: Option<PathStamp>,
}
