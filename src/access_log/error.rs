//! Errors of opening the access log.

use std::io;
use std::path::PathBuf;

/// Reason for which the access log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessLogError {
    /// The file cannot be opened.
    #[error(
        "cannot open the access log {}: {cause}\n  help: create its directory, and let the user that harmonia runs as write to it; in a unit, by LogsDirectory=",
        .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// Standard output is closed, or no thread can be started.
    #[error("cannot start the access log: {0}")]
    Start(io::Error),
}
