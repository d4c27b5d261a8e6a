//! SIGHUP: reloads the configuration, the certificate, the authorities of client certificates and the signing keys.
//!
//! Each of them takes effect at once and independently, for new connections, handshakes and narinfos; running responses are not
//! affected. If one cannot be used, the old one stays in use. Settings that need a restart are logged.

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::Error;
use crate::http::App;
use crate::metrics::Metrics;
use crate::net::Limits;
use crate::net::tls::{ClientCa, TlsServer};
use crate::process::systemd;
use crate::signing::{Signer, SigningKeys};

/// Reads the configuration again, and returns it with its warnings.
pub(crate) type LoadConfig = Box<dyn Fn() -> Result<(Config, Vec<String>), Error> + Send>;

/// The state that a reload replaces.
pub(super) struct Reload {
    /// The configuration in use.
    pub config: Config,
    /// Reads a new configuration.
    pub load_config: LoadConfig,
    /// Certificate, key and authorities of client certificates in use, with TLS.
    pub tls: Option<Arc<TlsServer>>,
    /// The handlers, whose signer and settings are replaced.
    pub app: Arc<App>,
    /// The metrics, for the expiry of the certificate.
    pub metrics: Arc<Metrics>,
    /// The limits on connections.
    pub limits: watch::Sender<Limits>,
}

impl Reload {
    /// Reloads at each signal. Returns when no more can arrive.
    pub(super) async fn run(&mut self, signal: &mut Signal) {
        while signal.recv().await.is_some() {
            systemd::reloading();
            match (self.load_config)() {
                Ok((new, warnings)) => self.apply(new, &warnings),
                Err(error) => {
                    for error in error.each() {
                        tracing::error!("reload failed, keeping the current configuration: {error}");
                    }
                }
            }
            self.app.reopen_logs(&self.config);
            self.reload_certificate();
            self.reload_client_ca();
            self.reload_keys();
            self.reload_access();
            systemd::ready();
        }
    }

    fn apply(&mut self, new: Config, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let report = self.config.apply(new);
        if !report.needs_restart.is_empty() {
            tracing::warn!("changed settings that take effect after a restart: {}", report.needs_restart.join(", "));
        }
        if !report.applied.is_empty() {
            tracing::info!("applied changed settings: {}", report.applied.join(", "));
        }
        self.app.apply_config(&self.config);
        self.limits.send_replace(Limits::from_config(&self.config));
    }

    fn reload_certificate(&self) {
        if let (Some(tls), Some(files)) = (&self.tls, &self.config.tls) {
            match tls.replace_identity(files, &self.config.store_directories()) {
                Ok(()) => {
                    self.metrics.certificate.set(tls.not_after());
                    tracing::info!("reloaded the certificate");
                }
                Err(error) => tracing::error!("reload failed, keeping the current certificate: {error}"),
            }
        }
    }

    fn reload_client_ca(&self) {
        let Some(tls) = &self.tls else { return };
        match tls.replace_client_ca(ClientCa::configured(&self.config)) {
            Ok(true) => tracing::info!("reloaded the authorities of client certificates"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!("reload failed, keeping the current authorities of client certificates: {error}");
            }
        }
    }

    /// Replaces views with the grants that name them: both are there while the grants are replaced, and if they cannot be.
    fn reload_access(&self) {
        let (store, views) = (self.app.store(), &self.config.views);
        let (Some(access), Some(config)) = (&self.app.access, &self.config.access) else {
            return store.replace_views(views);
        };
        store.add_views(views);
        match access.reload(&self.config) {
            Ok(()) => {
                store.replace_views(views);
                tracing::info!("reloaded access: {} grants, {} users", config.grants.len(), access.users());
            }
            Err(error) => tracing::error!("reload failed, keeping the current access: {error}"),
        }
    }

    fn reload_keys(&self) {
        let (keys, outcome) = match SigningKeys::load_and_warn(&self.config) {
            Ok(keys) => (Arc::new(keys), Ok(())),
            Err(error) => (self.app.signing_keys(), Err(error)),
        };
        let names = names(&keys);
        self.app.replace_signer(Signer::new(keys, self.config.sign.clone()));
        // Logged after the change, so that a reader can rely on it.
        match outcome {
            Ok(()) => tracing::info!("reloaded the signing keys: {names}"),
            Err(error) => tracing::error!("reload failed, keeping the current signing keys: {error}"),
        }
    }
}

fn names(keys: &SigningKeys) -> String {
    let names = keys.trusted_public_keys();
    if names.is_empty() { "none".to_owned() } else { names }
}
