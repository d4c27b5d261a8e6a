//! Errors of the store.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::NarError;
use harmonia_protocol::operation::UnsupportedOperation;
use harmonia_protocol::store_path::StorePathError;
use harmonia_protocol::wire::{DecodeError, DecodeErrorKind};
use harmonia_protocol::{ClientError, HashPart, StoreDir, StorePath};

use crate::config::DaemonAddress;
use crate::metrics::Outcome;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::socket_permission;

/// Reason why a store operation failed. Only [`StoreError::NotValid`] means that a path is not valid.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No connection to nix-daemon could be made.
    #[error("cannot reach nix-daemon at {daemon}: {reason}\n  help: {}", help(.daemon, *.kind))]
    Unreachable {
        /// Address of nix-daemon.
        daemon: DaemonAddress,
        /// Kind of the system's error.
        kind: io::ErrorKind,
        /// Text of the error: the system's, or the last line that the configured program wrote to its standard error.
        reason: String,
    },
    /// nix-daemon closed the connection before the handshake, as it does with users that it does not allow.
    #[error(
        "nix-daemon closed the connection before the handshake\n  help: check that user {user} is in allowed-users of nix.conf"
    )]
    Refused {
        /// User of this process, as nix-daemon sees it.
        user: String,
    },
    /// A deadline passed.
    #[error("timed out after {seconds} s waiting for {0}", seconds = .0.duration().as_secs())]
    Timeout(Deadline),
    /// An operation of nix-daemon failed.
    #[error("{message}")]
    Client {
        /// Error text, with a help line if there is one.
        message: String,
        /// Whether no byte of the reply had come, so that the operation can be retried.
        before_reply: bool,
    },
    /// Operation that this nix-daemon does not have. Nothing was sent.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedOperation),
    /// nix-daemon has another store directory.
    #[error("nix-daemon refuses paths of {ours}: {refusal}\n  help: {OTHER_STORE}")]
    StoreDirMismatch {
        /// Configured store directory.
        ours: StoreDir,
        /// nix-daemon's error.
        refusal: String,
    },
    /// nix-daemon replied with a path of another hash part.
    #[error("nix-daemon replied with {returned} to a query for {requested}")]
    WrongPath {
        /// Hash part of the query.
        requested: HashPart,
        /// Path of the reply.
        returned: StorePath,
    },
    /// The shared lookup ended without a result; the log has the reason.
    #[error("lookup of {0} was abandoned")]
    Abandoned(HashPart),
    /// A file of the store or the log directory cannot be read. Anybody who may build chooses its name, so it is shown
    /// with escapes.
    #[error("cannot read {path:?}: {reason}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system or the decoder.
        reason: String,
    },
    /// The index of the store is not complete yet.
    #[error("index of {what} is still being built (waited {seconds} s)")]
    IndexNotReady {
        /// Kind of the index.
        what: &'static str,
        /// Time waited, in seconds.
        seconds: u64,
    },
    /// The index of the store is full.
    #[error("index of {what} is full: it holds {max} entries, and the store has more")]
    IndexFull {
        /// Kind of the index.
        what: &'static str,
        /// Capacity of the index.
        max: usize,
    },
    /// Too many paths share one key of the index, and none of those tried may be served.
    #[error("more than {max} store paths share this {what} and none of those tried may be served")]
    TooManyPaths {
        /// Kind of the index.
        what: &'static str,
        /// Number of paths tried.
        max: usize,
    },
    /// nix-daemon says that a path has become invalid.
    #[error("{0} is no longer valid")]
    NotValid(StorePath),
    /// nix-daemon has no NAR size for a path, which very old versions of Nix did not record.
    #[error("nix-daemon does not know the NAR size of {0}\n  help: run nix-store --repair-path to record it")]
    UnknownSize(StorePath),
    /// A store path contains something that a NAR cannot.
    #[error("{path} is neither a file nor a directory nor a symlink, so that a NAR cannot contain it", path = .0.display())]
    UnsupportedFileType(PathBuf),
    /// A path changed since its NAR was opened or verified.
    #[error("{0} changed while its NAR was read")]
    Changed(StorePath),
    /// The bytes are not a NAR, or continue after its end.
    #[error(
        "the NAR of {path} is malformed: {cause}\n  help: run nix-store --verify-path to check whether the store is damaged"
    )]
    Malformed {
        /// Store path.
        path: StorePath,
        /// Error, with its position.
        cause: NarError,
    },
    /// A valid path has no files.
    #[error(
        "the files of {path} are missing: {message}\n  help: run nix-store --repair-path if a substituter has them, or nix-store --verify to remove the path"
    )]
    NoFiles {
        /// Store path.
        path: StorePath,
        /// nix-daemon's error.
        message: String,
    },
    /// The NAR has another size than its path info says.
    #[error(
        "the NAR of {path} has {found} bytes, but its path info says {expected}\n  help: run nix-store --verify-path to check whether the store is damaged"
    )]
    WrongSize {
        /// Store path.
        path: StorePath,
        /// Size in the path info, in bytes.
        expected: u64,
        /// Bytes received.
        found: u64,
    },
    /// The NAR has another hash than its path info says.
    #[error(
        "the NAR of {path} has the hash {found}, but its path info says {expected}\n  help: run nix-store --verify-path to check whether the store is damaged"
    )]
    WrongHash {
        /// Store path.
        path: StorePath,
        /// Hash in the path info.
        expected: NarHash,
        /// Hash of the bytes received.
        found: NarHash,
    },
}

impl StoreError {
    /// Creates [`Self::Unreachable`].
    pub(crate) fn unreachable(daemon: &DaemonAddress, cause: &io::Error) -> Self {
        let text = cause.to_string();
        // "Connection refused (os error 111)" reads better without the number.
        let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        Self::Unreachable { daemon: daemon.clone(), kind: cause.kind(), reason }
    }

    /// Creates [`Self::File`].
    pub(crate) fn file(path: &Path, cause: &io::Error) -> Self {
        Self::File { path: path.to_owned(), reason: cause.to_string() }
    }

    /// Returns whether nix-daemon did not reply at all, so that lookups of other paths would fail too.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. } | Self::Timeout(_)) || self.is_retryable()
    }

    /// Returns whether the NAR of a path does not match its path info.
    pub(crate) const fn is_mismatch(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::WrongSize { .. } | Self::WrongHash { .. } | Self::NoFiles { .. })
    }

    /// Converts an error of nix-daemon's dump of a path.
    pub(crate) fn of_dump(path: &StorePath, error: ClientError) -> Self {
        match error {
            ClientError::Nar(cause) => Self::Malformed { path: path.clone(), cause },
            ClientError::Daemon { error, .. } if is_absence(path, error.message()) => {
                Self::NoFiles { path: path.clone(), message: error.message().to_owned() }
            }
            error => error.into(),
        }
    }

    /// Returns whether the connection closed before a byte of the reply came.
    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Client { before_reply: true, .. })
    }
}

/// Help for a wrong store directory, which the protocol does not transmit.
const OTHER_STORE: &str = "set virtual_nix_store to the store directory of this nix-daemon";

/// Returns whether this message says that the files of a path are missing. For a directory that is being deleted it
/// names an entry. The words are those of Nix 2.3 to 2.36 and of Lix.
fn is_absence(path: &StorePath, message: &str) -> bool {
    // Nix 2.34 adds a slash.
    let named = ["'", "/'"].map(|end| format!("/{}{end}", path.base_name()));
    named.iter().any(|name| message.contains(name))
        && ["No such file or directory", "does not exist"].iter().any(|words| message.contains(words))
}

/// Returns the metric label of a result.
pub(crate) const fn outcome<T>(result: &Result<T, StoreError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Ok,
        Err(StoreError::Timeout(_)) => Outcome::Timeout,
        Err(_) => Outcome::Error,
    }
}

fn help(daemon: &DaemonAddress, kind: io::ErrorKind) -> Cow<'static, str> {
    match daemon {
        DaemonAddress::Socket(path) if kind == io::ErrorKind::PermissionDenied => socket_permission::help(path).into(),
        DaemonAddress::Socket(_) => "check that nix-daemon is running: systemctl status nix-daemon.socket".into(),
        DaemonAddress::Command(_) => "check that the program exists and that this user may run it".into(),
        DaemonAddress::None => "raise the limit of open files".into(),
    }
}

impl From<ClientError> for StoreError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::ClosedBeforeGreeting => Self::Refused { user: own_user() },
            ClientError::Unsupported(unsupported) => Self::Unsupported(unsupported),
            ClientError::Malformed {
                error: DecodeError { kind: DecodeErrorKind::StorePath(StorePathError::OutsideStore), .. },
                ..
            } => Self::Client { message: format!("{message}\n  help: {OTHER_STORE}"), before_reply: false },
            error => Self::Client { before_reply: error.is_retryable(), message },
        }
    }
}

/// Returns this process's effective user as nix-daemon sees it: the name in quotes, or the id if /etc/passwd has none.
fn own_user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let name = socket_permission::named("/etc/passwd", id);
    if name == id.to_string() { name } else { format!("\"{name}\"") }
}
