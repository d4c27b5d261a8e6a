//! Errors of fills and of reads from the NAR cache.

use std::io;

use crate::store::StoreError;

/// A reason why a compressed NAR cannot be written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FillError {
    /// The NAR cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The encoder failed.
    #[error("cannot compress a NAR: {0}")]
    Encoder(String),
    /// The disk failed, does not answer, or has too little space.
    #[error("compressed NAR unavailable: {0}")]
    Disk(String),
    /// A file cannot be got from elsewhere.
    #[error("cannot get the file of a NAR: {0}")]
    Fetch(String),
    /// The fill was dropped because the server stops.
    #[error("compression of a NAR was abandoned")]
    Abandoned,
}

impl FillError {
    pub(super) fn encoder(cause: &io::Error) -> Self {
        Self::Encoder(cause.to_string())
    }

    pub(crate) fn fetch(cause: &io::Error) -> Self {
        Self::Fetch(cause.to_string())
    }

    pub(super) fn disk(cause: &io::Error) -> Self {
        Self::Disk(cause.to_string())
    }

    pub(super) fn too_large() -> Self {
        Self::Disk("it may not fit into nar_cache.max_size".to_owned())
    }
}
