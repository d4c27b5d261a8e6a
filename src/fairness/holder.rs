//! Holder of permits: reports their use and gives them up.

use tokio::time::Instant;

/// A holder of permits that depend on a client's pace, and that can be reclaimed.
///
/// The semaphore calls it from the task of a waiting client, without holding any lock of its own.
pub trait Holder: Send + Sync {
    /// Returns how the permits are used at the time `now`.
    fn usage(&self, now: Instant) -> Usage;

    /// Gives up the permits, at once or within about a second. Returns false if they are in use again and are kept.
    fn reclaim(&self) -> bool;

    /// Returns whether a request is being served with the permits.
    fn is_in_use(&self) -> bool {
        true
    }

    /// Returns whether reclaiming disturbs a client, so that it is counted and logged.
    fn is_disruptive(&self) -> bool {
        true
    }
}

/// Use of permits by their holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The server is working for the client, or the client's rate is not known yet. Such permits are not reclaimed.
    Busy,
    /// The permits have not been used since this time.
    Idle(Instant),
    /// The client has data to read, and reads this many bytes per second.
    Reading(u64),
    /// The source of the response has had no data for seconds.
    SourceStalled,
}
