//! The bucket of a running server: requests, index, and the keys that its narinfos have to be signed with.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StoreDir;
use harmonia_protocol::signature::PublicKey;

use super::engine::{BucketError, BucketStore, OpenError};
use super::index::Index;
use super::object_name::SegmentId;
use super::publish::publishing::Publishing;
use super::read::{KnownFiles, NarInfos};
use super::used::Used;
use crate::config::{BucketConfig, Config, Publish};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// Pause between refreshes of the index. Half of the time for which it is fresh, so that a slow refresh does not make it stale.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// The bucket that hosts share, as this one sees it.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(in crate::bucket) store: Arc<BucketStore>,
    pub(in crate::bucket) index: Index,
    pub(in crate::bucket) config: BucketConfig,
    pub(in crate::bucket) directory: StoreDir,
    pub(in crate::bucket) metrics: Arc<Metrics>,
    pub(in crate::bucket) narinfos: NarInfos,
    pub(in crate::bucket) files: KnownFiles,
    pub(in crate::bucket) publishing: Publishing,
    /// Priority of the bucket as a cache of its own: that of this server.
    pub(in crate::bucket) priority: u32,
    pub(in crate::bucket) used: Used,
    trusted: Mutex<Arc<[PublicKey]>>,
}

impl Bucket {
    /// Opens the configured bucket, if there is one, without a request. Reads the access key and the certificate authorities.
    pub(crate) async fn open(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Arc<Self>>, OpenError> {
        let Some(bucket) = &config.bucket else { return Ok(None) };
        let store = BucketStore::open(bucket, Arc::clone(metrics)).await?;
        let mut opened = Self::new(store, bucket.clone(), config.virtual_nix_store.clone(), metrics);
        let (store, directory) = (Arc::clone(&opened.store), opened.directory.clone());
        opened.publishing = Publishing::open(
            store,
            directory,
            bucket.host.clone(),
            SegmentId::epoch_of(SystemTime::now()),
            config.state_dir.as_deref(),
        );
        opened.priority = config.priority;
        Ok(Some(Arc::new(opened)))
    }

    fn new(store: BucketStore, config: BucketConfig, directory: StoreDir, metrics: &Arc<Metrics>) -> Self {
        let store = Arc::new(store);
        let publishing = Publishing::open(
            Arc::clone(&store),
            directory.clone(),
            config.host.clone(),
            SegmentId::epoch_of(SystemTime::now()),
            None,
        );
        Self {
            store,
            publishing,
            priority: 0,
            index: Index::new(RandomState::new().hash_one(0)),
            narinfos: NarInfos::new(metrics),
            files: KnownFiles::default(),
            config,
            directory,
            metrics: Arc::clone(metrics),
            used: Used::default(),
            trusted: Mutex::default(),
        }
    }

    /// Opens a bucket in memory, with this answer while it is unreachable.
    #[cfg(test)]
    pub(in crate::bucket) fn in_memory(
        memory: &Arc<object_store::memory::InMemory>,
        unreachable: crate::config::Unreachable,
    ) -> Arc<Self> {
        let config = BucketConfig { unreachable, ..BucketConfig::for_tests() };
        let store = BucketStore::in_memory(memory, usize::MAX);
        Arc::new(Self::new(store, config, StoreDir::default(), &Arc::default()))
    }

    /// Sets the keys of this host, which are trusted like those of `bucket.trusted_public_keys`.
    pub(crate) fn set_own_keys<'a>(&self, own: impl Iterator<Item = &'a PublicKey>) {
        let trusted: Arc<[_]> = own.cloned().chain(self.config.trusted_public_keys.iter().cloned()).collect();
        self.publishing.set_trusted(&trusted);
        *self.trusted.lock() = trusted;
    }

    /// Returns the keys of which one has to have signed a narinfo.
    pub(in crate::bucket) fn trusted(&self) -> Arc<[PublicKey]> {
        Arc::clone(&self.trusted.lock())
    }

    /// Reads what other hosts publish, again and again.
    pub(crate) async fn run_index(&self) {
        let mut was_reached = true;
        loop {
            let result = self.refresh_index().await;
            match &result {
                Ok(()) if !was_reached => tracing::info!("the bucket {} is reached again", self.config.location),
                Err(error) if was_reached => tracing::error!("cannot read the index of the bucket: {error}"),
                Ok(()) | Err(_) => {}
            }
            was_reached = result.is_ok();
            if was_reached {
                self.publishing.publisher.series.announce_again(&self.store, &self.index.latest()).await;
            }
            tokio::time::sleep(REFRESH_EVERY).await;
        }
    }

    /// Reads what other hosts have published, and forgets what this one has if it is there no more.
    pub(in crate::bucket) async fn refresh_index(&self) -> Result<(), BucketError> {
        if let Some(listed) = self.index.refresh(&self.store).await? {
            let listed = listed.into_iter().collect();
            if self.publishing.compare(&listed) {
                tracing::info!("paths that this host has published were removed from the bucket");
            }
            if self.config.publish == Publish::All {
                self.publishing.set_listed(listed);
            }
        }
        Ok(())
    }
}
