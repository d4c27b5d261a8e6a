//! Opens the configured object store.

use std::sync::Arc;

use super::kind::{Engine, OpenError};
use super::store::BucketStore;
use crate::config::{BucketConfig, BucketLocation};
use crate::metrics::Metrics;

impl BucketStore {
    /// Opens the configured object store, without a request. Reads the access key and the certificate authorities.
    pub(crate) async fn open(config: &BucketConfig, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let wanted = config.clone();
        let opened = tokio::task::spawn_blocking(move || Engine::open(&wanted)).await;
        let engine = opened.map_err(|_| OpenError::Ended)??;
        let prefix = match &config.location {
            BucketLocation::S3 { prefix, .. } => prefix,
            BucketLocation::Directory(_) => "",
        };
        Ok(Self::new(engine, prefix, metrics))
    }
}
