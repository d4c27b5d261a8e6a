//! How long each step may take, and its name when it took longer.

use std::fmt;
use std::time::Duration;

use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::Opcode;

/// A step with a deadline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Waiting for a connection to ask a question on.
    FreeConnection,
    /// Waiting for a connection to read a NAR on, which others may hold for as long as their clients take.
    FreeNarStream,
    /// Connecting to the daemon's socket, with retries: a daemon that restarts is away for that long.
    Connect,
    /// An exchange with the daemon. SQLite may be busy for long, but not longer.
    Daemon(Phase),
    /// Waiting for the next bytes of a NAR, while the client wants them.
    NarBytes,
    /// Compressing a NAR, where its compressed length is asked for.
    Compressing,
    /// Finding out whether the daemon answers, all steps together.
    Readiness,
}

impl Deadline {
    /// How long the step may take. There is none for a whole NAR.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            // Those who ask have a deadline too, and learn nothing when it passes first.
            Self::Readiness => 3,
            // A restart of 5 s, and the pauses between attempts. Nix up to 2.34 tries again for 4 s, later releases for
            // one: that alone does not reach.
            Self::Connect => 6,
            Self::Daemon(Phase::Handshake) => 10,
            // Those who wait behind a handshake that fails are to be told of that, and not to go before.
            Self::FreeConnection => 12,
            // Nix up to 2.3 sets no root while it collects garbage; nobody waits for that.
            Self::Daemon(Phase::Operation(Opcode::AddTempRoot)) => 600,
            Self::Daemon(Phase::Operation(_)) => 30,
            Self::NarBytes => 60,
            // Nix gives up a transfer that has been silent for 300 s; a 503 before that would use up one of its five
            // attempts for nothing.
            Self::FreeNarStream | Self::Compressing => 240,
        })
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreeConnection => f.write_str("a free connection"),
            Self::FreeNarStream => f.write_str("a free connection for a nar"),
            Self::Connect => f.write_str("connecting"),
            Self::Daemon(step) => step.fmt(f),
            Self::Readiness => f.write_str("an answer"),
            Self::Compressing => f.write_str("compressing a nar"),
            Self::NarBytes => f.write_str("the next bytes of a nar"),
        }
    }
}
