//! The state of the store, for people who ask.

use std::sync::Arc;

use harmonia_protocol::HashPart;

use super::{HeldBackPath, Presence, Store, ValidPath};

impl Store {
    /// The daemon that was last connected to, if one ever was.
    #[must_use]
    pub fn presence(&self) -> Option<Presence> {
        self.pool.presence()
    }

    /// The paths that are held back or doubted, in no order.
    #[must_use]
    pub fn held_back(&self) -> Vec<HeldBackPath> {
        self.held_back.all()
    }

    /// The path that has this hash part, if it is known without a question to the daemon: for its name and whether it was
    /// asked for, not for whether it is valid.
    #[must_use]
    pub fn known_path(&self, hash: HashPart) -> Option<Arc<ValidPath>> {
        self.infos.known_path(hash)
    }
}
