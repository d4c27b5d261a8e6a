//! State of a [`Store`]. Its operations are in the folders of their subjects.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmonia_protocol::StoreDir;
use harmonia_protocol::derivation_output::DerivationOutput;
use harmonia_protocol::realisation::Realisation;
use harmonia_protocol::signature_set::KnownKeys;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use crate::store::daemon::dialer::Dialer;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::gc_roots::protection::GcRoots;
use crate::store::hidden::set::HiddenPaths;
use crate::store::index::debug_info::DebugInfoIndex;
use crate::store::nar::opener::NarOpener;
use crate::store::nar::quarantine::Quarantine;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::inventory::Inventories;
use crate::store::pins::access::Pins;
use crate::store::realisation::{NoRealisation, Realisations};
use crate::store::views::registry::Views;

/// Upper bound of concurrent lookups in the store's files, which take microseconds unless the disk is slow.
const MAX_LOOKUPS: usize = 4;

/// Stands for a directory that is not on this machine: it contains nothing.
const NOWHERE: &str = "/dev/null";

/// The store of one nix-daemon.
#[derive(Debug)]
pub struct Store {
    pub(crate) directory: StoreDir,
    pub(crate) real_directory: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) pool: Arc<Pool>,
    pub(crate) path_infos: Arc<PathInfoCache>,
    pub(crate) nar_opener: NarOpener,
    pub(crate) quarantine: Arc<Quarantine>,
    /// `None` if paths are not protected from the garbage collector.
    pub(crate) gc_roots: Option<GcRoots>,
    pub(crate) realisations: Realisations,
    /// Permits for lookups in the store's files, up to 128 descriptors each.
    pub(crate) lookups: Semaphore,
    pub(crate) debug_info: DebugInfoIndex,
    pub(crate) inventories: Arc<Inventories>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) views: Arc<Views>,
    pub(crate) hidden: HiddenPaths,
    /// `None` without a state directory.
    pub(crate) pins: Option<Pins>,
}

impl Store {
    /// Creates a store as configured, without connecting. Must be called in a runtime.
    #[must_use]
    pub fn new(config: &Config, metrics: &Arc<Metrics>) -> Self {
        let directory = config.virtual_nix_store.clone();
        let dialer = Dialer::new(config.daemon.address.clone(), directory.clone(), Arc::clone(metrics));
        let pool = Pool::new(&dialer, config.max_metadata_connections, config.max_nar_connections, Arc::clone(metrics));
        let pool = Arc::new(pool);
        let here = |place: &Option<PathBuf>| place.clone().unwrap_or_else(|| NOWHERE.into());
        let (real_directory, log_dir) = (here(&config.real_nix_store), here(&config.build_log_dir));
        let max_bytes = usize::try_from(config.narinfo_cache.max_size.bytes()).unwrap_or(usize::MAX);
        let ttl = config.narinfo_cache.ttl;
        let path_infos = PathInfoCache::new(Arc::clone(&pool), &real_directory, max_bytes, ttl, Arc::clone(metrics));
        if config.bucket.is_some() && config.real_nix_store.is_some() {
            path_infos.know_names();
        }
        let quarantine = Arc::new(Quarantine::new(&real_directory, metrics));
        let nar_opener = NarOpener::new(
            config,
            &real_directory,
            Arc::clone(&pool),
            Arc::clone(&path_infos),
            Arc::clone(&quarantine),
            metrics,
        );
        let gc_roots = config.gc_protection.map(|length| GcRoots::new(length, &pool, &path_infos, metrics));
        let debug_info = DebugInfoIndex::new();
        let inventories = Inventories::new(config.browse);
        let views = Views::new(&path_infos, &directory, &real_directory, &config.views);
        let (realisations, lookups) = (Realisations::new(), Semaphore::new(MAX_LOOKUPS));
        Self {
            directory,
            real_directory,
            log_dir,
            pool,
            path_infos,
            nar_opener,
            quarantine,
            gc_roots,
            realisations,
            lookups,
            debug_info,
            inventories,
            metrics: Arc::clone(metrics),
            views,
            pins: config.state_dir.as_deref().map(Pins::new),
            hidden: HiddenPaths::new(config.state_dir.clone(), metrics),
        }
    }

    /// Returns the logical store directory.
    #[must_use]
    pub const fn directory(&self) -> &StoreDir {
        &self.directory
    }

    /// Prefers signatures of these keys, where a path has more than are kept.
    pub fn set_known_keys(&self, keys: KnownKeys) {
        self.pool.set_known_keys(Arc::new(keys));
    }

    /// Applies the setting that can change at runtime: the time to live of cached path infos.
    pub fn apply_config(&self, config: &Config) {
        self.path_infos.set_ttl(config.narinfo_cache.ttl);
    }

    /// Updates the metrics of connections and caches.
    pub fn update_metrics(&self) {
        self.pool.record();
        self.path_infos.record();
    }

    /// Returns the realisation of an output of a content-addressed derivation, or the reason why there is none.
    pub async fn realisation(
        &self,
        output: &DerivationOutput,
        client: ClientId,
    ) -> Result<Result<Realisation, NoRealisation>, StoreError> {
        let found = self.realisations.find(&self.pool, output, client).await?;
        match &found {
            Ok(realisation) if self.hides(&realisation.path, client).await? => Ok(Err(NoRealisation::Unknown)),
            _ => Ok(found),
        }
    }

    /// Runs `work`, which blocks on the store's files, on another thread. It gets the real store directory.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let directory = self.real_directory.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        done.map_err(|error| StoreError::file(&self.real_directory, &io::Error::other(error)))?
    }
}
