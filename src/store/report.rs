//! State of the store for status reports and web pages.

use crate::store::daemon::outage::Uptime;
use crate::store::nar::quarantine::QuarantinedPath;
use crate::store::path_info::inventory::Inventory;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;
use harmonia_protocol::HashPart;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

impl Store {
    /// Returns the period in which nix-daemon was last reachable, if it ever was.
    #[must_use]
    pub fn daemon_uptime(&self) -> Option<Uptime> {
        self.pool.uptime()
    }

    /// Returns the quarantined and suspected paths, unordered.
    #[must_use]
    pub fn quarantined(&self) -> Vec<QuarantinedPath> {
        self.quarantine.all()
    }

    /// Returns the cached path of this hash part, which may be stale.
    #[must_use]
    pub fn cached_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.path_infos.cached_path(hash)
    }

    /// Returns the last list of valid paths, and refreshes it in the background when it is old. Waits only for the
    /// first one, at most for `max_wait`; `None` if there is none by then.
    pub async fn inventory(&self, max_wait: Duration) -> Option<Arc<Inventory>> {
        let mut latest = self.inventories.latest.subscribe();
        let before = latest.borrow_and_update().attempts;
        self.inventories.query_if_due(&self.pool, &self.path_infos);
        let is_querying = *self.inventories.is_querying.lock();
        if is_querying && latest.borrow().inventory.is_none() {
            let ended = latest.wait_for(|latest| latest.attempts > before);
            // There is no inventory if no reply comes in time.
            let _ = timeout(max_wait, ended).await;
        }
        latest.borrow().inventory.clone()
    }
}
