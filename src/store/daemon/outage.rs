//! Whether the daemon is there, and since when.

use std::time::Duration;

use harmonia_protocol::session::Session;
use tokio::time::Instant;

use crate::store::error::StoreError;

/// A time without a daemon.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The reason why the last attempt failed.
    pub error: StoreError,
    pub(crate) began: Instant,
    /// The time at which a dial last gave up. Until the first does, the daemon may be restarting.
    pub(crate) failed: Option<Instant>,
}

impl Outage {
    /// Time since it began.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A time with a daemon, which a connection that failed for less than a second does not end.
#[derive(Debug, Clone)]
pub struct Uptime {
    /// The session that was agreed on when it was connected to last.
    pub session: Session,
    began: Instant,
}

impl Uptime {
    /// A connection has been made, and there was no outage since the one `before`.
    pub(crate) fn new(session: Session, before: Option<&Self>) -> Self {
        Self { session, began: before.map_or_else(Instant::now, |before| before.began) }
    }

    /// Time since it began.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}
