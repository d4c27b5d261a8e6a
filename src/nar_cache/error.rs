//! Reasons why there are no compressed bytes.

use std::io;

use crate::store::StoreError;

/// A reason why compressed bytes cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FillError {
    /// The NAR cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encoder failed.
    #[error("cannot compress a nar: {0}")]
    Encoder(String),
    /// The disk did, or does not answer, or has no room for it.
    #[error("cannot keep a compressed nar: {0}")]
    Disk(String),
    /// It was given up, because the server stops.
    #[error("the source of a compressed nar is gone")]
    Gone,
}

impl FillError {
    pub(super) fn encoder(cause: &io::Error) -> Self {
        Self::Encoder(cause.to_string())
    }

    pub(super) fn disk(cause: &io::Error) -> Self {
        Self::Disk(cause.to_string())
    }
}
