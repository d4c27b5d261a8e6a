//! Bucket whose narinfos are checked, and what has to be true of them.

use std::sync::Arc;

use harmonia_protocol::StoreDir;
use harmonia_protocol::signature::PublicKey;

use super::listed::Listed;
use crate::bucket::BucketStore;

/// A bucket, and what has to be true of its narinfos.
pub(super) struct Against {
    pub(super) store: Arc<BucketStore>,
    pub(super) directory: StoreDir,
    /// Keys of which one has to have signed; empty if signatures are not checked.
    pub(super) keys: Vec<PublicKey>,
    pub(super) listed: Listed,
}
