//! What the status of the server tells about the store.

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
    /// The daemon that was last connected to, if one ever was.
    #[must_use]
    pub fn daemon_uptime(&self) -> Option<Uptime> {
        self.pool.uptime()
    }

    /// The paths that are held back or doubted, in no order.
    #[must_use]
    pub fn quarantined(&self) -> Vec<QuarantinedPath> {
        self.quarantine.all()
    }

    /// The path that has this hash part, if it is known without a question to the daemon: for its name and whether it was
    /// asked for, not for whether it is valid.
    #[must_use]
    pub fn cached_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.path_infos.cached_path(hash)
    }

    /// The valid paths as the daemon told them last, after a while by a new question that nobody waits for. Only the first
    /// one is waited for, and not longer than `patience`; `None` if there was no answer by then.
    pub async fn inventory(&self, stall_timer: Duration) -> Option<Arc<Inventory>> {
        let mut latest = self.inventories.latest.subscribe();
        let before = latest.borrow_and_update().attempts;
        self.inventories.ask_if_due(&self.pool, &self.path_infos);
        let is_asking = *self.inventories.is_asking.lock();
        if is_asking && latest.borrow().inventory.is_none() {
            let ended = latest.wait_for(|latest| latest.attempts > before);
            // Without an answer in time there is nothing to tell.
            let _ = timeout(stall_timer, ended).await;
        }
        latest.borrow().inventory.clone()
    }
}
