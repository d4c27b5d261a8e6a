//! Target that paths are copied to.

use std::sync::Arc;

use harmonia_protocol::StoreDir;

use crate::bucket::BucketStore;
use crate::config::HostName;

/// A bucket or directory, of this store directory.
pub(super) struct Target {
    pub(super) store: Arc<BucketStore>,
    pub(super) directory: StoreDir,
    /// Priority of the target as a cache of its own.
    pub(super) priority: u32,
    /// Name under which paths are entered in the index.
    pub(super) host: HostName,
}
