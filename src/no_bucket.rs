//! In place of the bucket in a program that is built without it: there is none, so nothing here is ever called.

use std::sync::Arc;

use harmonia_protocol::signature::PublicKey;

use crate::config::Config;
use crate::metrics::Metrics;

/// A bucket, of which there is none.
#[derive(Debug)]
pub(crate) enum Bucket {}

/// Reason why there is no bucket to ask, of which there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {}

impl Bucket {
    /// Returns `None`.
    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn open(_: &Config, _: &Arc<Metrics>) -> Result<Option<Arc<Self>>, OpenError> {
        Ok(None)
    }

    pub(crate) fn set_own_keys<'a>(&self, _: impl Iterator<Item = &'a PublicKey>) {
        match *self {}
    }

    #[allow(clippy::unused_async, reason = "the bucket's is async")]
    pub(crate) async fn run_index(&self) {
        match *self {}
    }
}
