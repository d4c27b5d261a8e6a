//! Reasons why a push is refused or fails, each with a status and one line for the person at the terminal.
//!
//! `nix copy` prints the body of an error response, and does not try again after a 4xx: it means that the same push can
//! never succeed. A 502 or 503 means that it can.

use harmonia_protocol::StorePath;
use harmonia_protocol::hash::NarHash;

use crate::push::file_name::UploadName;
use crate::push::nar_check::NarFault;
use crate::push::narinfo::NarInfoFault;
use crate::store::StoreError;

/// Longest line, in bytes: Nix prints bodies of up to a kilobyte.
const MAX_LINE: usize = 700;

/// Reason why a push failed. The store is unchanged, unless it says that the path was added.
///
/// `Display` is for the log; [`PushError::line`] is for the client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PushError {
    /// The narinfo is malformed, or not one that may be pushed here.
    #[error("{0}")]
    NarInfo(#[from] NarInfoFault),
    /// The narinfo names a file that this principal has not uploaded.
    #[error("nar/{0} has not been uploaded: upload the NAR before its narinfo")]
    NotUploaded(UploadName),
    /// The path is valid with another NAR.
    #[error(
        "{path} is valid with the NAR hash {valid} and was pushed with {pushed}: a valid path is never replaced; push a build with another store path, or delete it from the store first"
    )]
    OtherNar {
        /// Store path.
        path: StorePath,
        /// NAR hash of the valid path.
        valid: NarHash,
        /// NAR hash in the narinfo.
        pushed: NarHash,
    },
    /// A reference is not valid.
    #[error("{path} refers to {reference}, which is not in this store: push that path first")]
    MissingReference {
        /// Store path.
        path: StorePath,
        /// The first reference that is missing.
        reference: StorePath,
    },
    /// The uploaded file is not the NAR that the narinfo describes.
    #[error("{path}: {fault}")]
    Nar {
        /// Store path.
        path: StorePath,
        /// Reason.
        fault: NarFault,
    },
    /// nix-daemon requires a signature.
    #[error(
        "nix-daemon refuses {path}: {message}; sign it (nix store sign) with a key in trusted-public-keys of the nix.conf on the cache's machine"
    )]
    Untrusted {
        /// Store path.
        path: StorePath,
        /// nix-daemon's message.
        message: String,
    },
    /// nix-daemon refuses the path for another reason.
    #[error("nix-daemon refuses {path}: {message}; build the path again and push that")]
    Refused {
        /// Store path.
        path: StorePath,
        /// nix-daemon's message.
        message: String,
    },
    /// nix-daemon cannot store the path now, such as on a full disk.
    #[error("nix-daemon cannot add {path}: {message}; make room or repair the store, then push again")]
    Unable {
        /// Store path.
        path: StorePath,
        /// nix-daemon's message.
        message: String,
    },
    /// nix-daemon is not reachable, or went away before the path was added.
    #[error("cannot add {path}: {cause}")]
    Daemon {
        /// Store path.
        path: StorePath,
        /// Error of the connection.
        cause: StoreError,
    },
    /// The path was added, but has no root that keeps it.
    #[error("{path} was added, but cannot be kept from the garbage collector: {cause}")]
    NotKept {
        /// Store path.
        path: StorePath,
        /// Error of the directory or of nix-daemon.
        cause: String,
    },
}

impl PushError {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NarInfo(fault) => fault.status(),
            Self::NotUploaded(_) | Self::OtherNar { .. } | Self::MissingReference { .. } => 409,
            Self::Nar { fault: NarFault::File(_), .. } | Self::Unable { .. } | Self::NotKept { .. } => 503,
            Self::Nar { .. } | Self::Refused { .. } => 422,
            Self::Untrusted { .. } => 403,
            Self::Daemon { cause: StoreError::Unreachable { .. } | StoreError::Refused { .. }, .. } => 502,
            Self::Daemon { .. } => 503,
        }
    }

    /// Returns the line for the client, without a line feed. It has no local path and no error of the system.
    #[must_use]
    pub fn line(&self) -> String {
        let text = match self {
            Self::Daemon { path, .. } => {
                format!("cannot add {path}: nix-daemon on the cache's machine did not answer; push again later")
            }
            Self::NotKept { path, .. } => {
                format!("{path} was added, but cannot be kept from the garbage collector; push again later")
            }
            Self::Nar { path, fault: NarFault::File(_) } => {
                format!("cannot read the uploaded NAR of {path}; push again later")
            }
            other => other.to_string(),
        };
        one_line(&text)
    }

    /// Returns the name of the reason in logs and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NarInfo(fault) => fault.label(),
            Self::NotUploaded(_) => "not_uploaded",
            Self::OtherNar { .. } => "other_nar",
            Self::MissingReference { .. } => "missing_reference",
            Self::Nar { fault: NarFault::File(_), .. } => "file_error",
            Self::Nar { .. } => "wrong_nar",
            Self::Untrusted { .. } => "untrusted",
            Self::Refused { .. } => "refused",
            Self::Unable { .. } => "daemon_unable",
            Self::Daemon { .. } => "daemon_unavailable",
            Self::NotKept { .. } => "not_kept",
        }
    }
}

/// Returns the text without control characters, cut to [`MAX_LINE`].
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars().map(|it| if it.is_control() { ' ' } else { it }) {
        if line.len() + character.len_utf8() > MAX_LINE {
            line.push('…');
            break;
        }
        line.push(character);
    }
    line
}
