//! What a permit's holder tells of itself.

use tokio::time::Instant;

/// Who holds permits at the pace of a client, and can be made to give them up.
///
/// The semaphore calls it without any lock of its own, from the task of whoever waits.
pub trait Holder: Send + Sync {
    /// The use that is made of the permits at the time `now`.
    fn usage(&self, now: Instant) -> Usage;

    /// Gives up the permits, at once or within about a second. False if it will not, because it is in use just now.
    fn give_up(&self) -> bool;

    /// Whether something is under way for the client.
    fn is_in_use(&self) -> bool {
        true
    }

    /// Whether anybody loses something by that, so that it is counted and logged.
    fn is_loss(&self) -> bool {
        true
    }
}

/// The use that is made of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The server is at work for the client, or it is not known yet how fast the client is: not to be taken back.
    Working,
    /// Held for later, without any use since then.
    Unused(Instant),
    /// The client has something to take, and takes so many bytes per second of it.
    Taking(u64),
    /// The source of what is sent has had nothing for seconds.
    Starved,
}
