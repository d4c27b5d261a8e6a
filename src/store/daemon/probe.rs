//! Probes of nix-daemon.

use crate::fairness::ClientId;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::outage::Outage;
use crate::store::error::StoreError;
use crate::store::state::Store;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::session::Session;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::watch;

/// A path that exists in no store.
const NO_PATH: &str = "00000000000000000000000000000000-none";

impl Store {
    /// Returns whether there is a nix-daemon. Without one the store is empty.
    #[must_use]
    pub fn has_daemon(&self) -> bool {
        self.pool.has_daemon()
    }

    /// Returns the session of a connection to nix-daemon, connecting if there is no idle one.
    pub async fn session(&self) -> Result<Session, StoreError> {
        self.pool.session().await
    }

    /// Returns the current outage of nix-daemon, if the last attempt to connect failed, and its changes.
    #[must_use]
    pub fn daemon_outage(&self) -> watch::Receiver<Option<Outage>> {
        self.pool.outage()
    }

    /// Checks that nix-daemon replies to queries about paths of this store directory, by two cheap ones. Fails sooner
    /// than other operations do.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let questions = async {
            self.pool.call(ClientId::Server, &QueryPathFromHashPart(HashPart::ZERO)).await?;
            let Ok(no_path) = StorePath::from_base_name(NO_PATH) else { return Ok(()) };
            // The protocol does not transmit the store directory, but nix-daemon refuses paths of another.
            match self.pool.call(ClientId::Server, &QueryPathInfo(&no_path)).await {
                Err(StoreError::Client { message, before_reply: false }) => {
                    Err(StoreError::StoreDirMismatch { ours: self.directory.clone(), refusal: message })
                }
                result => result.map(drop),
            }
        };
        match Deadline::Readiness.enforce(questions).await {
            // Without a connection the error is that of connecting.
            Err(StoreError::Timeout(Deadline::Readiness)) => {
                Err(self.pool.last_error().unwrap_or(StoreError::Timeout(Deadline::Readiness)))
            }
            result => result,
        }
    }
}
