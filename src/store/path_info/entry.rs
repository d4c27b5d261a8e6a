//! Entries of the path info cache.

use std::sync::Arc;

use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::path_info::path_stamp::Sighting;
use crate::store::path_info::valid_path::ValidPath;

/// The valid path, or that there is none, or why the daemon cannot say.
pub(crate) type Answer = Result<Option<Arc<ValidPath>>, StoreError>;

/// An answer of the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) valid: Arc<ValidPath>,
    /// As the path looked before the daemon was asked; nothing where the store is not visible here.
    pub(crate) sighting: Option<Sighting>,
    /// When it was asked; nothing if what it said has turned out to be doubtful.
    pub(crate) asked: Option<Instant>,
    /// Whether its references have been looked through.
    pub(crate) is_walked: bool,
}

/// What an answer is good for now.
pub(crate) enum Standing {
    /// To be used.
    Fresh,
    /// To be used if the daemon does not answer.
    Aged,
    /// For nothing but the path's name.
    Changed,
}

/// When, and with what in sight, the daemon was asked about a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) asked: Instant,
    pub(crate) sighting: Option<Sighting>,
}
