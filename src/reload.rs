//! SIGHUP: the certificate and the signing keys are read again, from the files that were named at the start.
//!
//! Each takes effect by itself and at once, for new handshakes and new narinfos; running downloads go on. What cannot be
//! used leaves the old in service. The configuration itself is not read again.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;

use crate::config::Sign;
use crate::http::App;
use crate::net::tls::Identity;
use crate::notify;
use crate::signing::{Signer, SigningKeys};

/// What is read again.
pub struct Reload {
    /// The certificate in use, where there is TLS.
    pub identity: Option<Arc<Identity>>,
    /// What signs.
    pub app: Arc<App>,
    /// The files of the keys.
    pub sign_key_paths: Vec<PathBuf>,
    /// Which paths they sign; that is not read again.
    pub sign: Sign,
    /// Those below it are not warned about.
    pub credentials_directory: Option<PathBuf>,
}

impl Reload {
    /// Reads everything again at each signal.
    pub async fn at_each(self, mut signal: Signal) {
        while signal.recv().await.is_some() {
            notify::reloading();
            if let Some(identity) = &self.identity {
                match identity.reload() {
                    Ok(()) => tracing::info!("reloaded the certificate"),
                    Err(error) => tracing::error!("the certificate in use stays: {error}"),
                }
            }
            match SigningKeys::load_and_warn(&self.sign_key_paths, self.credentials_directory.as_deref()) {
                Ok(keys) => {
                    tracing::info!("reloaded the signing keys: {}", names(&keys));
                    self.app.replace_signer(Signer::new(keys, self.sign.clone()));
                }
                Err(error) => tracing::error!("the signing keys in use stay: {error}"),
            }
            notify::ready();
        }
    }
}

fn names(keys: &SigningKeys) -> String {
    let names = keys.trusted_public_keys();
    if names.is_empty() { "none".to_owned() } else { names }
}
