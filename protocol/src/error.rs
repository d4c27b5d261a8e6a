//! What can go wrong between a client and its daemon.

use std::io;

use crate::handshake::HandshakeError;
use crate::nar::NarError;
use crate::operation::{Opcode, UnsupportedOperation};
use crate::stderr::DaemonError;
use crate::wire::DecodeError;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The greeting failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The daemon closed the connection before it said a word: by far the most frequent reason is `allowed-users`.
    #[error("the nix daemon closed the connection before its greeting")]
    ClosedBeforeGreeting,
    /// The daemon closed the connection in the middle of something.
    #[error("the nix daemon closed the connection during {during}")]
    Closed {
        /// What was being done.
        during: Phase,
        /// Whether a byte of the reply had come. If none had, a read operation can be asked again elsewhere.
        reply_begun: bool,
    },
    /// The connection broke.
    #[error("the connection to the nix daemon broke during {during}: {source}")]
    Io {
        /// What was being done.
        during: Phase,
        /// Whether a byte of the reply had come.
        reply_begun: bool,
        /// The system's reason.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error("the nix daemon failed {during}: {error}")]
    Daemon {
        /// What was being done.
        during: Phase,
        /// What the daemon says.
        error: DaemonError,
    },
    /// The daemon sent what no daemon sends.
    #[error("the nix daemon's reply to {during} is malformed: {error}")]
    Malformed {
        /// What was being done.
        during: Phase,
        /// Where the reply is wrong.
        error: DecodeError,
    },
    /// The bytes of a NAR are not a NAR.
    #[error("the nix daemon's nar is malformed: {0}")]
    Nar(#[from] NarError),
    /// The source of an upload could not be read.
    #[error("cannot read the nar to upload: {0}")]
    Source(io::Error),
    /// The daemon has no such operation.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedOperation),
    /// An earlier operation was not carried through, so the connection is closed.
    #[error("the connection to the nix daemon is closed")]
    AlreadyClosed,
}

impl ClientError {
    /// Whether the connection died before a byte of the reply had come, so that asking once more on a fresh
    /// connection cannot repeat anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::AlreadyClosed | Self::Closed { reply_begun: false, .. } | Self::Io { reply_begun: false, .. }
        )
    }
}

/// What a client is doing: the word for errors and deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The greeting.
    Handshake,
    /// An operation.
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
