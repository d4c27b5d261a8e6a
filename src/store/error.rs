//! Why the store cannot say, or cannot deliver.

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

/// Why there is no answer about the store. Only [`StoreError::NotValid`] means that a path is not valid.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No connection.
    #[error("cannot reach the nix daemon at {daemon}: {reason}\n  help: {}", help(.daemon, *.kind))]
    Unreachable {
        /// Where it should be.
        daemon: DaemonAddress,
        /// What kind of reason.
        kind: io::ErrorKind,
        /// The reason in words: the system's, or those of a program in the daemon's place.
        reason: String,
    },
    /// The daemon hung up on us without a word, as it does on users that it does not serve.
    #[error(
        "the nix daemon closed the connection before its greeting\n  help: is user {user} in allowed-users of nix.conf?"
    )]
    Refused {
        /// Who we are to the daemon.
        user: String,
    },
    /// A step took longer than it may.
    #[error("the nix daemon is late: {0} took more than {seconds} seconds", seconds = .0.duration().as_secs())]
    Timeout(Deadline),
    /// The exchange with the daemon failed.
    #[error("{message}")]
    Client {
        /// What happened, with a help line where there is something to do.
        message: String,
        /// Whether nothing of a reply had come, so that a read can be tried once more.
        before_reply: bool,
    },
    /// The daemon has no such operation, and was not asked.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedOperation),
    /// The daemon answers, but not about the paths of our store directory.
    #[error("the nix daemon refuses paths of {ours}: {refusal}\n  help: {OTHER_STORE}")]
    StoreDirMismatch {
        /// Ours.
        ours: StoreDir,
        /// What it says.
        refusal: String,
    },
    /// The daemon answered with a path that was not asked for.
    #[error("the nix daemon answered {answered} to a question about {asked}")]
    WrongPath {
        /// What was asked for.
        asked: HashPart,
        /// What it said.
        answered: StorePath,
    },
    /// The question was given up by whoever asked it, for reasons that are in the log.
    #[error("no question about {0} was carried through")]
    Abandoned(HashPart),
    /// A file of Nix's that cannot be read. Its name is anybody's who may build, so it is shown with escapes.
    #[error("cannot read {path:?}: {reason}")]
    File {
        /// Where it is.
        path: PathBuf,
        /// The system's reason, or the decoder's.
        reason: String,
    },
    /// What is not in an index of the store, which is not whole yet.
    #[error("the store was not looked through for {what} within {seconds} seconds, which goes on")]
    IndexNotReady {
        /// What of.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// What is not in an index of the store, where there was no room for all.
    #[error("the store has more {what} than {max}: not all can be found")]
    IndexFull {
        /// What of.
        what: &'static str,
        /// How many there is room for.
        max: usize,
    },
    /// What is in an index for too many paths to try all, and none of those is given out.
    #[error("more than {max} store paths have the same {what}, and the first of them are not given out")]
    TooManyPaths {
        /// What of.
        what: &'static str,
        /// How many are tried.
        max: usize,
    },
    /// The daemon has said meanwhile that a path is not valid any more.
    #[error("{0} is not valid any more")]
    NotValid(StorePath),
    /// A path of an ancient store whose size was never recorded.
    #[error("the nix daemon does not know the nar size of {0}\n  help: nix-store --repair-path records it")]
    UnknownSize(StorePath),
    /// Something in a store path that a NAR has no word for.
    #[error("{path} is neither a file nor a directory nor a symlink: no nar can hold it", path = .0.display())]
    UnsupportedFileType(PathBuf),
    /// A path that is not as it was when its NAR was proven, or not any more.
    #[error("{0} changed while its nar was read")]
    Changed(StorePath),
    /// Bytes that are no NAR, or go on where its size says that it ends.
    #[error(
        "the nar of {path} is malformed: {cause}\n  help: nix-store --verify-path tells whether the store is damaged"
    )]
    Malformed {
        /// The path.
        path: StorePath,
        /// What is wrong, and where.
        cause: NarError,
    },
    /// A path that the daemon calls valid, without its files.
    #[error(
        "the files of {path} are not there: {message}\n  help: nix-store --repair-path brings them back where a substituter has them, nix-store --verify forgets the path"
    )]
    NoFiles {
        /// The path.
        path: StorePath,
        /// What the daemon says.
        message: String,
    },
    /// A NAR of another size than its path info says.
    #[error(
        "the nar of {path} has {found} bytes where its path info says {expected}\n  help: nix-store --verify-path tells whether the store is damaged"
    )]
    WrongSize {
        /// The path.
        path: StorePath,
        /// The size of the path info, in bytes.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// A NAR of another hash than its path info says.
    #[error(
        "the nar of {path} has {found} where its path info says {expected}\n  help: nix-store --verify-path tells whether the store is damaged"
    )]
    WrongHash {
        /// The path.
        path: StorePath,
        /// The hash of the path info.
        expected: NarHash,
        /// The hash of the bytes that came.
        found: NarHash,
    },
}

impl StoreError {
    /// Why no connection can be made.
    pub(crate) fn unreachable(daemon: &DaemonAddress, cause: &io::Error) -> Self {
        let text = cause.to_string();
        // "Connection refused (os error 111)" reads better without the number.
        let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        Self::Unreachable { daemon: daemon.clone(), kind: cause.kind(), reason }
    }

    /// What went wrong at `path`.
    pub(crate) fn file(path: &Path, cause: &io::Error) -> Self {
        Self::File { path: path.to_owned(), reason: cause.to_string() }
    }

    /// Whether there was no word of the daemon: what would be said of any path.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. } | Self::Timeout(_)) || self.is_retryable()
    }

    /// Whether it proves that a path is not what the daemon says of it.
    pub(crate) const fn is_mismatch(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::WrongSize { .. } | Self::WrongHash { .. } | Self::NoFiles { .. })
    }

    /// Why the daemon's dump of a path ended.
    pub(crate) fn of_dump(path: &StorePath, error: ClientError) -> Self {
        match error {
            ClientError::Nar(cause) => Self::Malformed { path: path.clone(), cause },
            ClientError::Daemon { error, .. } if is_absence(path, error.message()) => {
                Self::NoFiles { path: path.clone(), message: error.message().to_owned() }
            }
            error => error.into(),
        }
    }

    /// Whether a connection died before a byte of the reply had come.
    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Client { before_reply: true, .. })
    }
}

/// The protocol does not tell where the daemon's store is.
const OTHER_STORE: &str = "is virtual_nix_store the store directory of this daemon?";

/// Whether a daemon says by this that there is nothing where the path should be: of a directory that is being deleted it
/// names what is in it. The words are those of releases from 2.3 to 2.36 and of Lix.
fn is_absence(path: &StorePath, message: &str) -> bool {
    // Nix 2.34 adds a slash.
    let named = ["'", "/'"].map(|end| format!("/{}{end}", path.base_name()));
    named.iter().any(|name| message.contains(name))
        && ["No such file or directory", "does not exist"].iter().any(|words| message.contains(words))
}

/// What metrics call a result.
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
        DaemonAddress::Socket(_) => "is nix-daemon running? try: systemctl status nix-daemon.socket".into(),
        DaemonAddress::Command(_) => "does the program exist, and may this user run it?".into(),
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

/// Our name as the daemon sees it: by effective user id, in quotes, or the bare id where /etc/passwd has no name.
fn own_user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let name = socket_permission::named("/etc/passwd", id);
    if name == id.to_string() { name } else { format!("\"{name}\"") }
}
