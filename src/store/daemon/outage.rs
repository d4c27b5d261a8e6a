//! Since when nix-daemon is reachable or not.

use std::time::Duration;

use harmonia_protocol::session::Session;
use tokio::time::Instant;

use crate::store::error::StoreError;

/// A period in which nix-daemon is unreachable.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Error of the last attempt to connect.
    pub error: StoreError,
    pub(crate) began: Instant,
    /// Time at which a dial last failed; `None` while nix-daemon may only be restarting.
    pub(crate) failed: Option<Instant>,
}

impl Outage {
    /// Returns the time since it began.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A period in which nix-daemon is reachable. Outages of less than a second do not end it.
#[derive(Debug, Clone)]
pub struct Uptime {
    /// Session of the last connection.
    pub session: Session,
    began: Instant,
}

impl Uptime {
    /// Continues the period `before`, or begins one now.
    pub(crate) fn new(session: Session, before: Option<&Self>) -> Self {
        Self { session, began: before.map_or_else(Instant::now, |before| before.began) }
    }

    /// Returns the time since it began.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}
