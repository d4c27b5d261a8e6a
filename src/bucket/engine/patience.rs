//! Time that callers give a server.

use std::time::Duration;

/// Upper bound of the time of a request without its body.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Time for which a caller waits for a server that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A client waits for the answer: two attempts, within a few seconds.
    Client,
    /// Nobody waits: some minutes.
    Background,
}

impl Patience {
    /// Returns the upper bound of attempts; those after a request for fewer requests count too.
    pub(super) const fn attempts(self) -> u32 {
        match self {
            Self::Client => 2,
            Self::Background => 8,
        }
    }

    /// Returns the longest pause that is kept before a request.
    pub(super) const fn pause(self) -> Duration {
        match self {
            Self::Client => Duration::from_millis(500),
            Self::Background => Duration::from_secs(60),
        }
    }

    /// Returns the upper bound of the time of a request.
    pub(super) const fn time(self) -> Duration {
        match self {
            Self::Client => Duration::from_secs(5),
            Self::Background => REQUEST_TIME,
        }
    }
}
