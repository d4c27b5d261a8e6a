//! Probes of nix-daemon: whether it answers, and what it was found to be.

use crate::fairness::ClientId;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::outage::Outage;
use crate::store::error::StoreError;
use crate::store::state::Store;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::session::Session;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::watch;

/// A path of any store directory that is not there.
const NO_PATH: &str = "00000000000000000000000000000000-none";

impl Store {
    /// Connects, if there is no idle connection, and returns what was agreed on with the daemon.
    pub async fn session(&self) -> Result<Session, StoreError> {
        self.pool.session().await
    }

    /// Tells whether the daemon was there when a connection to it was last attempted, and of changes.
    #[must_use]
    pub fn daemon_outage(&self) -> watch::Receiver<Option<Outage>> {
        self.pool.outage()
    }

    /// Whether the daemon answers questions about paths of this store directory, found out by two that cost it next to
    /// nothing. Tells sooner than other questions that it does not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let questions = async {
            self.pool.call(ClientId::Server, &QueryPathFromHashPart(HashPart::ZERO)).await?;
            let Ok(no_path) = StorePath::from_base_name(NO_PATH) else { return Ok(()) };
            // The protocol does not tell where the daemon's store is, but daemons refuse paths that lie elsewhere.
            match self.pool.call(ClientId::Server, &QueryPathInfo(&no_path)).await {
                Err(StoreError::Client { message, before_reply: false }) => {
                    Err(StoreError::StoreDirMismatch { ours: self.directory.clone(), refusal: message })
                }
                result => result.map(drop),
            }
        };
        match Deadline::Readiness.enforce(questions).await {
            // The daemon has not been late yet if there was none.
            Err(StoreError::Timeout(Deadline::Readiness)) => {
                Err(self.pool.last_error().unwrap_or(StoreError::Timeout(Deadline::Readiness)))
            }
            result => result,
        }
    }
}
