//! SIGHUP: the configuration, the certificate and the signing keys are read again.
//!
//! Each takes effect by itself and at once, for new connections, handshakes and narinfos; what is running goes on. What
//! cannot be used leaves the old in service, and what needs a restart is named.

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::Config;
use crate::error::Error;
use crate::http::App;
use crate::metrics::Metrics;
use crate::net::Limits;
use crate::net::tls::Identity;
use crate::process::systemd;
use crate::signing::{Signer, SigningKeys};

/// Reads the configuration again, with its warnings.
pub(super) type Load = Box<dyn Fn() -> Result<(Config, Vec<String>), Error> + Send>;

/// What is replaced.
pub(super) struct Reload {
    /// What is in force.
    pub config: Config,
    /// Where a new one comes from.
    pub load: Load,
    /// The certificate in use, where there is TLS.
    pub identity: Option<Arc<Identity>>,
    /// What signs and what remembers.
    pub app: Arc<App>,
    /// The metrics, which have the end of the certificate.
    pub metrics: Arc<Metrics>,
    /// The bounds on connections.
    pub limits: watch::Sender<Limits>,
}

impl Reload {
    /// Reads everything again at each signal.
    pub(super) async fn at_each(&mut self, signal: &mut Signal) {
        while signal.recv().await.is_some() {
            systemd::reloading();
            match (self.load)() {
                Ok((new, warnings)) => self.take_over(new, &warnings),
                Err(error) => {
                    for error in error.each() {
                        tracing::error!("the configuration in use stays: {error}");
                    }
                }
            }
            self.app.reopen_access_log(&self.config);
            self.certificate();
            self.signer();
            systemd::ready();
        }
    }

    fn take_over(&mut self, new: Config, warnings: &[String]) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let report = self.config.apply(new);
        if !report.needs_restart.is_empty() {
            tracing::warn!("changed in the configuration, and needs a restart: {}", report.needs_restart.join(", "));
        }
        if !report.applied.is_empty() {
            tracing::info!("changed by the configuration: {}", report.applied.join(", "));
        }
        self.app.apply_config(&self.config);
        self.limits.send_replace(Limits::of(&self.config));
    }

    fn certificate(&self) {
        if let (Some(identity), Some(files)) = (&self.identity, &self.config.tls) {
            match identity.replace(files, &self.config.store_directories()) {
                Ok(()) => {
                    self.metrics.certificate.set(identity.not_after());
                    tracing::info!("reloaded the certificate");
                }
                Err(error) => tracing::error!("the certificate in use stays: {error}"),
            }
        }
    }

    fn signer(&self) {
        let (keys, outcome) = match SigningKeys::load_and_warn(&self.config) {
            Ok(keys) => (Arc::new(keys), Ok(())),
            Err(error) => (self.app.signing_keys(), Err(error)),
        };
        let names = names(&keys);
        self.app.replace_signer(Signer::new(keys, self.config.sign.clone()));
        // Whoever reads it finds it done.
        match outcome {
            Ok(()) => tracing::info!("reloaded the signing keys: {names}"),
            Err(error) => tracing::error!("the signing keys in use stay: {error}"),
        }
    }
}

fn names(keys: &SigningKeys) -> String {
    let names = keys.trusted_public_keys();
    if names.is_empty() { "none".to_owned() } else { names }
}
