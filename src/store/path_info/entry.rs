//! Entries of the path info cache.

use std::sync::Arc;

use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::valid_path::ValidPath;

/// Result of a lookup; `None` if there is no such valid path.
pub(crate) type LookupResult = Result<Option<Arc<ValidPath>>, StoreError>;

/// A cached path info.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) valid: Arc<ValidPath>,
    /// Stamp of the path before the query; `None` if the path is not visible.
    pub(crate) stamp: Option<PathStamp>,
    /// Time of the query; `None` if the entry was marked stale.
    pub(crate) queried_at: Option<Instant>,
    /// Whether its references were prefetched.
    pub(crate) prefetched: bool,
}

/// Freshness of an entry.
pub(crate) enum Freshness {
    /// Served without a query.
    Fresh,
    /// Too old: is served only if nix-daemon does not respond.
    Stale,
    /// The path may have changed: only its name is of use, as a hint.
    Changed,
}

/// Time before a query of a path, and its stamp at that time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    pub(crate) queried_at: Instant,
    pub(crate) stamp: Option<PathStamp>,
}
