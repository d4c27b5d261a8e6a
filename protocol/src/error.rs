//! Errors of a client.

use std::io;

use crate::handshake::HandshakeError;
use crate::nar::NarError;
use crate::operation::{Opcode, UnsupportedOperation};
use crate::stderr::DaemonError;
use crate::wire::DecodeError;

/// Error of a [`Client`](crate::client::Client) or [`NarStream`](crate::client::NarStream).
///
/// After any of them the connection is closed, except after [`Unsupported`](Self::Unsupported), and after
/// [`Daemon`](Self::Daemon) where the operation [survives it](Opcode::survives_error).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// nix-daemon closed the connection without sending anything, usually because `allowed-users` in nix.conf does not list
    /// the user of this process.
    #[error("nix-daemon closed the connection before its greeting")]
    ClosedBeforeGreeting,
    /// nix-daemon closed the connection during the handshake or an operation.
    #[error("nix-daemon closed the connection during {during}")]
    Closed {
        /// Phase in which it happened.
        during: Phase,
        /// Whether a byte of the reply had arrived.
        reply_begun: bool,
    },
    /// Reading from or writing to the stream failed.
    #[error("connection to nix-daemon failed during {during}: {source}")]
    Io {
        /// Phase in which it happened.
        during: Phase,
        /// Whether a byte of the reply had arrived.
        reply_begun: bool,
        /// Error of the stream.
        source: io::Error,
    },
    /// nix-daemon reported an error in place of a reply.
    #[error("nix-daemon failed {during}: {error}")]
    Daemon {
        /// Phase in which it happened.
        during: Phase,
        /// Error that nix-daemon reported.
        error: DaemonError,
    },
    /// nix-daemon sent a reply that cannot be decoded.
    #[error("cannot decode nix-daemon's reply to {during}: {error}")]
    Malformed {
        /// Phase in which it happened.
        during: Phase,
        /// Field that is malformed, and how.
        error: DecodeError,
    },
    /// nix-daemon sent a malformed NAR.
    #[error("nix-daemon sent a malformed NAR: {0}")]
    Nar(#[from] NarError),
    /// The NAR to upload could not be read.
    #[error("cannot read the NAR to upload: {0}")]
    Source(io::Error),
    /// nix-daemon of this session does not implement the operation. Nothing was sent.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedOperation),
    /// The connection was closed before this operation, by an error or a dropped future of an earlier one.
    #[error("connection to nix-daemon is closed")]
    AlreadyClosed,
}

impl ClientError {
    /// Returns whether the connection ended before a byte of the reply had arrived, so that a read operation may be
    /// repeated on another connection.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::AlreadyClosed | Self::Closed { reply_begun: false, .. } | Self::Io { reply_begun: false, .. }
        )
    }
}

/// Phase of a connection, for errors and timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The handshake.
    Handshake,
    /// An operation, from its request to the end of its reply.
    Operation(Opcode),
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Handshake => f.write_str("the handshake"),
            Self::Operation(opcode) => write!(f, "{opcode:?}"),
        }
    }
}
