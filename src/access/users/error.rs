//! Errors of the users file.

use std::io;
use std::path::{Path, PathBuf};

use super::htpasswd::SyntaxError;

/// Maximum size of a users file, in bytes: a hundred thousand users.
pub(super) const MAX_FILE: u64 = 10_000_000;

/// Reason why a users file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The file could not be read.
    #[error("cannot read the users file {}: {cause}{}", path.display(), unreadable_help(path, .cause))]
    Read {
        /// The users file.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the users file {}: {cause}{}", path.display(), unwritable_help(.cause))]
    Write {
        /// The users file.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The file is in the Nix store, which this cache serves.
    #[error(
        "the users file {} is no secret: it is {} in the Nix store, which every user can read and this cache serves\n  help: move it out of the store and give its path as a string",
        path.display(),
        found.display()
    )]
    InStore {
        /// The users file, as configured.
        path: PathBuf,
        /// Its path with all symlinks resolved.
        found: PathBuf,
    },
    /// The file is not a regular file.
    #[error("the users file {} is not a regular file\n  help: give the path of a file with a line NAME:HASH for each user", path.display())]
    NotAFile {
        /// The users file.
        path: PathBuf,
    },
    /// The file is too large.
    #[error("the users file {} is larger than {MAX_FILE} bytes\n  help: remove users; tokens or client certificates suit so many better", path.display())]
    TooLarge {
        /// The users file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("{}: the users file is not UTF-8\n  help: save it as UTF-8; names are ASCII", path.display())]
    NotText {
        /// The users file.
        path: PathBuf,
    },
    /// A line cannot be used.
    #[error("{}:{}: {}\n  help: {}", path.display(), error.line, error.problem, error.problem.help())]
    Syntax {
        /// The users file.
        path: PathBuf,
        /// The error and its line.
        error: SyntaxError,
    },
    /// The system has no random numbers.
    #[error("cannot verify passwords: no random numbers are available")]
    NoRandomNumbers,
}

fn unreadable_help(path: &Path, cause: &io::Error) -> String {
    let path = path.display();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "\n  help: let the user that harmonia runs as read it and nobody else, e.g. chown root:harmonia {path} && chmod 640 \
             {path}"
        ),
        io::ErrorKind::NotFound => {
            format!("\n  help: `harmonia user add NAME --file {path}` creates it, if the path is right")
        }
        _ => String::new(),
    }
}

fn unwritable_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "\n  help: run this as root or as the owner of the file",
        io::ErrorKind::NotFound => "\n  help: create its directory first",
        _ => "",
    }
}
