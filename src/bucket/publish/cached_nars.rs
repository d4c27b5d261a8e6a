//! Files of the NAR cache as a source of publishing. A file that was evicted meanwhile is compressed again, to the same bytes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::nar_source::{Chunks, NarSource};
use crate::bucket::file_hash::{FileHash, NarFile};
use crate::fairness::ClientId;
use crate::nar_cache::{CompressedBody, FileInfo, FillError, NarCache};
use crate::store::ValidPath;

/// Compressed NARs of some valid paths.
pub(crate) struct CachedNars {
    cache: Arc<NarCache>,
    paths: HashMap<NarFile, Arc<ValidPath>>,
}

impl CachedNars {
    /// Creates a source without files.
    pub(crate) fn new(cache: Arc<NarCache>) -> Self {
        Self { cache, paths: HashMap::new() }
    }

    /// Adds the NAR of a path, which is compressed unless it is in the cache, and returns hash and size of its file. If the
    /// future is dropped, a fill that runs is completed nevertheless.
    pub(crate) async fn add(&mut self, valid: &Arc<ValidPath>) -> Result<FileInfo, FillError> {
        let mut nar = self.cache.get_or_fill(valid, ClientId::Server).await?;
        // The file has a hash when the fill has ended.
        nar.length().await?;
        let info = self.cache.file_info(&valid.info.nar_hash).ok_or(FillError::Abandoned)?;
        self.paths.insert(NarFile::zstd(FileHash::from_digest(info.sha256)), Arc::clone(valid));
        Ok(info)
    }
}

impl NarSource for CachedNars {
    type Chunks = CompressedBody;

    async fn open(&self, file: NarFile) -> io::Result<CompressedBody> {
        let valid = self.paths.get(&file).ok_or(io::ErrorKind::NotFound)?;
        let nar = self.cache.get_or_fill(valid, ClientId::Server).await.map_err(io::Error::other)?;
        nar.open(None).await.map_err(io::Error::other)
    }
}

impl Chunks for CompressedBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_chunk(context)).await.map_err(io::Error::other)
    }
}
