//! Errors of opening the audit log.

use std::io;
use std::path::PathBuf;

/// Reason for which the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditLogError {
    /// The file cannot be opened.
    #[error(
        "cannot open the audit log {}: {cause}\n  help: create its directory, and let the user that harmonia runs as write to it; in a unit, by LogsDirectory=",
        .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// No thread can be started.
    #[error("cannot start the audit log: {0}")]
    Start(io::Error),
}
