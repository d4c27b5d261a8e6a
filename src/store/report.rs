//! What the store knows of itself, for people who ask.

use harmonia_protocol::{HashPart, StorePath};

use super::{HeldBackPath, Presence, Store};

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

    /// The path that has this hash part, if it is known without a question to the daemon: its name, not whether it is valid.
    #[must_use]
    pub fn known_path(&self, hash: HashPart) -> Option<StorePath> {
        self.infos.known_path(hash)
    }
}
