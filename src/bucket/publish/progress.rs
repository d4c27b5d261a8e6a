//! Progress of publishing, as a command shows it.

use serde::{Deserialize, Serialize};

/// Progress with the paths that a command waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishProgress {
    /// Paths that were named and are not done.
    pub(crate) left: usize,
    /// Paths that are not published, with the reasons.
    pub(crate) refused: Vec<Refused>,
    /// Paths of the closures that are being published, and how many of them are done.
    pub(crate) paths: u64,
    pub(crate) paths_done: u64,
    /// Size of their NARs, in bytes, and how much of it is done.
    pub(crate) nar_bytes: u64,
    pub(crate) nar_bytes_done: u64,
    /// Bytes that were sent to the bucket for them.
    pub(crate) sent: u64,
    /// Reason for which nothing can be published now.
    pub(crate) waiting_for: Option<String>,
}

/// A path that is not published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Hash part.
    pub(crate) path: String,
    /// Reason.
    pub(crate) reason: String,
}
