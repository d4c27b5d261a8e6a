//! Sources of the files that are published.

use std::future::Future;
use std::io;

use bytes::Bytes;

use crate::bucket::file_hash::NarFile;

/// Compressed NARs, such as those of a NAR cache.
pub(crate) trait NarSource: Sync {
    /// Stream of one file.
    type Chunks: Chunks;

    /// Opens a file at its first byte. An error means that this host does not have it now.
    fn open(&self, file: NarFile) -> impl Future<Output = io::Result<Self::Chunks>> + Send;
}

/// Bytes of a file, in pieces.
pub(crate) trait Chunks: Send {
    /// Returns the next bytes; `None` after the last ones.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
}
