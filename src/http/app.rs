//! The state that all requests share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::audit_log::AuditLog;
use crate::bucket::Bucket;
use crate::config::{Config, PushConfig};
use crate::http::active_responses::ActiveResponses;
use crate::http::error_log::ThrottledErrorLog;
use crate::http::error_reason::Reason;
use crate::http::handlers::landing_page::page::LandingPage;
use crate::http::html::page::HtmlPages;
use crate::http::io_limits::IoLimits;
use crate::http::response::compress::TextCompressor;
use crate::http::uploads::Uploads;
use crate::metrics::Metrics;
use crate::nar_cache::NarCache;
use crate::push::spool::Spool;
use crate::push::{Keep, PushRules, Pusher};
use crate::signing::{Signer, SigningKeys};
use crate::store::{Store, ValidPath};

/// State that all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Arc<Store>,
    /// `None` if compressed NARs are not cached.
    pub(crate) nar_cache: Option<Arc<NarCache>>,
    pub(crate) signer: ArcSwap<Signer>,
    /// `None` if responses are not compressed.
    pub(crate) compressor: Option<TextCompressor>,
    /// The priority in `/nix-cache-info`.
    pub(crate) priority: u32,
    pub(crate) io_limits: IoLimits,
    pub(crate) pages: HtmlPages,
    pub(crate) landing_page: LandingPage,
    /// Whether `/browse` lists the valid paths.
    pub(crate) has_browse: bool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) error_log: Arc<ThrottledErrorLog>,
    pub(crate) active_responses: Arc<ActiveResponses>,
    /// `None` if no access log is written.
    pub(crate) access_log: Option<Arc<AccessLog>>,
    /// `None` if no audit log is written.
    pub(crate) audit_log: Option<Arc<AuditLog>>,
    /// `None` if nothing can be pushed.
    pub(crate) uploads: Option<Uploads>,
    /// `None` if every client may read.
    pub(crate) access: Option<Access>,
    /// `None` if what other hosts have is of no concern.
    pub(crate) bucket: Option<Arc<Bucket>>,
}

impl App {
    /// Creates the state for this configuration. Must be called in a runtime.
    #[must_use]
    pub(crate) fn new(config: &Config, store: Store, signer: Signer, metrics: Arc<Metrics>) -> Self {
        store.set_known_keys(signer.known_keys());
        let store = Arc::new(store);
        for reason in Reason::ALL {
            metrics.http.init_error_responses(reason.status().as_u16(), reason.label());
        }
        Self {
            nar_cache: NarCache::open(config, Arc::clone(&store), Arc::clone(&metrics)),
            signer: ArcSwap::from_pointee(signer),
            compressor: config.enable_compression.then(|| TextCompressor::new(config.zstd)),
            priority: config.priority,
            io_limits: IoLimits::new(&metrics),
            pages: HtmlPages::new(config.tls.is_some()),
            landing_page: LandingPage::new(config, &store),
            has_browse: config.browse,
            store,
            metrics,
            error_log: Arc::default(),
            active_responses: Arc::default(),
            access_log: None,
            audit_log: None,
            uploads: None,
            access: None,
            bucket: None,
        }
    }

    /// Sets the access log that responses are entered into.
    #[must_use]
    pub(crate) fn with_access_log(self, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { access_log, ..self }
    }

    /// Sets the audit log that requests are recorded in.
    #[must_use]
    pub(crate) fn with_audit_log(self, audit_log: Option<Arc<AuditLog>>) -> Self {
        Self { audit_log, ..self }
    }

    /// Accepts uploads into this spool.
    #[must_use]
    pub(crate) fn with_spool(self, config: &Config, spool: Option<Arc<Spool>>) -> Self {
        let parts = config.push.as_ref().zip(config.state_dir.as_ref()).zip(spool);
        let uploads = parts.map(|((push, state_dir), spool)| {
            let (store, nar_cache, keep) =
                (Arc::clone(&self.store), self.nar_cache.clone(), Keep::new(state_dir, push.keep));
            let pusher = Pusher::new(store, nar_cache, push_rules(push, &self.store), keep);
            Uploads::new(push, spool, pusher, &self.metrics)
        });
        Self { uploads, ..self }
    }

    /// Sets who may do what, and starts to fetch the keys of issuers. Must be called in a runtime.
    #[must_use]
    pub(crate) fn with_access(self, access: Option<Access>) -> Self {
        access.iter().for_each(Access::start);
        Self { access, ..self }
    }

    /// Sets the bucket that this host shares with others.
    #[must_use]
    pub(crate) fn with_bucket(self, bucket: Option<Arc<Bucket>>) -> Self {
        if let Some(bucket) = &bucket {
            bucket.set_own_keys(self.signer.load().keys().public_keys());
        }
        Self { bucket, ..self }
    }

    /// Returns the bucket, if there is one.
    #[must_use]
    pub(crate) const fn bucket(&self) -> Option<&Arc<Bucket>> {
        self.bucket.as_ref()
    }

    /// Returns whether paths can be pushed.
    #[must_use]
    pub(crate) const fn accepts_uploads(&self) -> bool {
        self.uploads.is_some()
    }

    /// Reopens the access log and the audit log, which may have been rotated.
    pub(crate) fn reopen_logs(&self, config: &Config) {
        if let (Some(log), Some(config)) = (&self.access_log, &config.access_log) {
            log.reopen(config);
        }
        if let (Some(log), Some(config)) = (&self.audit_log, &config.audit) {
            log.reload(config);
        }
    }

    /// Waits until all entries of the access log and the audit log are written. The audit log records the end of the program.
    pub(crate) async fn flush_logs(&self) {
        if let Some(log) = &self.access_log {
            log.flush().await;
        }
        if let Some(log) = &self.audit_log {
            log.close().await;
        }
    }

    /// Returns the store that is served.
    #[must_use]
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the cache of compressed NARs, if there is one.
    #[must_use]
    pub(crate) const fn nar_cache(&self) -> Option<&Arc<NarCache>> {
        self.nar_cache.as_ref()
    }

    /// Returns the responses that are being sent.
    #[must_use]
    pub(crate) fn active_responses(&self) -> &ActiveResponses {
        &self.active_responses
    }

    /// Returns the metrics.
    #[must_use]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Updates the gauges of what is cached in memory and on disk.
    pub(crate) fn update_gauges(&self) {
        self.store.update_metrics();
        if let Some(nar_cache) = &self.nar_cache {
            nar_cache.update_metrics();
        }
        if let Some(uploads) = &self.uploads {
            uploads.update_metrics();
        }
        if let Some(bucket) = &self.bucket {
            bucket.update_index_metrics();
            bucket.update_queue_metrics();
        }
    }

    /// Applies the settings that take effect without a restart, other than keys: how long path infos are cached, and the
    /// size of the NAR cache.
    pub(crate) fn apply_config(&self, config: &Config) {
        self.store.apply_config(config);
        if let Some(nar_cache) = &self.nar_cache {
            nar_cache.apply_config(config);
        }
        if let (Some(uploads), Some(config)) = (&self.uploads, &config.push) {
            uploads.apply_config(config, push_rules(config, &self.store));
        }
    }

    /// Returns the signing keys in use.
    #[must_use]
    pub(crate) fn signing_keys(&self) -> Arc<SigningKeys> {
        Arc::clone(self.signer.load().keys())
    }

    /// Replaces the signer for all later requests.
    pub(crate) fn replace_signer(&self, signer: Signer) {
        self.store.set_known_keys(signer.known_keys());
        if let Some(bucket) = &self.bucket {
            bucket.set_own_keys(signer.keys().public_keys());
        }
        self.signer.store(Arc::new(signer));
    }

    /// Returns the NAR cache if the NAR of this path is served compressed.
    pub(crate) fn nar_cache_for(&self, valid: &ValidPath) -> Option<&Arc<NarCache>> {
        self.nar_cache.as_ref().filter(|cache| self.compressor.is_some() && cache.fits_nar(valid))
    }
}

fn push_rules(config: &PushConfig, store: &Store) -> PushRules {
    PushRules {
        store: store.directory().clone(),
        max_nar_size: config.max_nar_size.bytes(),
        trusted_public_keys: config.trusted_public_keys.clone(),
    }
}
