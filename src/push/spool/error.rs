//! Reasons for which a file does not come into the spool.

use std::io;

use super::owner::FileHash;
use crate::human_size::human_size;

/// A reason for which a file does not come into the spool. The text is for whoever uploads: it has no path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The file is larger than one may be.
    #[error("the file is larger than {key} of this cache ({})", human_size(*.limit))]
    TooLarge {
        /// The key with the limit.
        key: &'static str,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Other files of the same owner leave no space.
    #[error("your unfinished uploads fill push.max_spool_size_per_principal of this cache ({})", human_size(*.0))]
    OwnersSpace(u64),
    /// Other files leave no space.
    #[error("unfinished uploads fill push.max_spool_size of this cache ({})", human_size(*.0))]
    Space(u64),
    /// There are too many files.
    #[error("there are too many unfinished uploads")]
    TooManyFiles,
    /// The disk is full.
    #[error("the disk of this cache is full")]
    DiskFull,
    /// The file has another hash than its name.
    #[error("the file does not have the hash of its name: it has {0}")]
    WrongHash(FileHash),
    /// The disk failed.
    #[error("the disk of this cache fails")]
    Io(#[source] io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io(cause),
        }
    }
}
