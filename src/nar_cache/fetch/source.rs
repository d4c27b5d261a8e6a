//! Files from elsewhere, and streams of their bytes.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use harmonia_protocol::StorePath;

use crate::nar_cache::disk::entry::FileInfo;
use crate::nar_cache::serve::CompressedBody;

/// A file that may have to be fetched.
#[derive(Debug, Clone)]
pub(crate) struct FileToFetch {
    /// Its hash and size.
    pub(crate) info: FileInfo,
    /// Path whose NAR is in it, for operators.
    pub(crate) path: Option<StorePath>,
}

/// Bytes of a file, or of a range of one, in pieces.
pub(crate) trait FileSource: Send {
    /// Polls for the next bytes; `None` after the last ones, which have to be all. Must not be polled after an error.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;
}

impl FileSource for CompressedBody {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.poll_chunk(context).map_err(io::Error::other)
    }
}
