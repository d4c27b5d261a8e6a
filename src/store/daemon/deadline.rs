//! Deadlines of everything that waits for nix-daemon.

use std::fmt;
use std::time::Duration;

use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::Opcode;

/// An activity with a deadline. `Display` completes "timed out waiting for …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// Waiting for a free metadata connection.
    FreeConnection,
    /// Waiting for a free NAR connection, which is in use for as long as a client reads.
    FreeNarStream,
    /// Connecting to nix-daemon, with retries for as long as a restart takes.
    Connect,
    /// Handshake or operation of nix-daemon, whose SQLite may be busy.
    Daemon(Phase),
    /// Waiting for the next bytes of a NAR, while the client wants them.
    NarBytes,
    /// Waiting for nix-daemon to take more of a NAR that is added, or to register it.
    StoreAdd,
    /// Compressing a NAR whose compressed length is requested.
    Compressing,
    /// Probing nix-daemon, in all.
    Readiness,
}

impl Deadline {
    /// Returns the time allowed. There is no deadline for a whole NAR.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            // Below the timeouts of those who probe us.
            Self::Readiness => 3,
            // A restart takes 5 s, plus the pauses between attempts. Clients' own retries are too short: Nix up to 2.34
            // retries for 4 s, later releases for 1 s.
            Self::Connect => 6,
            Self::Daemon(Phase::Handshake) => 10,
            // Longer than the handshake, so that waiting clients get its error.
            Self::FreeConnection => 12,
            // Nix up to 2.3 sets no root while it collects garbage. No client waits for this.
            Self::Daemon(Phase::Operation(Opcode::AddTempRoot)) => 600,
            Self::Daemon(Phase::Operation(_)) => 30,
            Self::NarBytes => 60,
            // A daemon that syncs a large path, or waits for a garbage collection of Nix 2.3.
            Self::StoreAdd => 300,
            // Nix aborts a transfer that is silent for 300 s, and an early 503 would waste one of its five attempts.
            Self::FreeNarStream | Self::Compressing => 240,
        })
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FreeConnection => f.write_str("a free nix-daemon connection"),
            Self::FreeNarStream => f.write_str("a free nix-daemon connection for a NAR"),
            Self::Connect => f.write_str("a connection to nix-daemon"),
            Self::Daemon(phase) => write!(f, "nix-daemon: {phase}"),
            Self::Readiness => f.write_str("a reply of nix-daemon"),
            Self::Compressing => f.write_str("the compression of a NAR"),
            Self::StoreAdd => f.write_str("nix-daemon to add a path"),
            Self::NarBytes => f.write_str("the next bytes of a NAR"),
        }
    }
}
