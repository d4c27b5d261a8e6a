//! Files of the NAR cache as a source of publishing. A file that was evicted meanwhile is compressed again, to the same bytes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::nar_source::{Chunks, NarSource};
use crate::bucket::file_hash::NarFile;
use crate::fairness::ClientId;
use crate::nar_cache::{CompressedBody, FileInfo, FillError, NarCache};
use crate::store::ValidPath;

/// Compressed NARs of some valid paths.
pub(super) struct CachedNars {
    cache: Arc<NarCache>,
    paths: HashMap<NarFile, Arc<ValidPath>>,
}

impl CachedNars {
    /// Creates a source of these files, which the NARs of these paths are compressed to.
    pub(super) const fn new(cache: Arc<NarCache>, paths: HashMap<NarFile, Arc<ValidPath>>) -> Self {
        Self { cache, paths }
    }
}

impl NarSource for CachedNars {
    type Chunks = CompressedBody;

    async fn open(&self, file: NarFile) -> io::Result<CompressedBody> {
        let valid = self.paths.get(&file).ok_or(io::ErrorKind::NotFound)?;
        CachedNar::new(&self.cache, valid).open(file).await
    }
}

/// Compressed NAR of a valid path.
pub(super) struct CachedNar<'a> {
    cache: &'a Arc<NarCache>,
    valid: &'a Arc<ValidPath>,
}

impl<'a> CachedNar<'a> {
    /// Creates the NAR of a path, without looking for it.
    pub(super) const fn new(cache: &'a Arc<NarCache>, valid: &'a Arc<ValidPath>) -> Self {
        Self { cache, valid }
    }

    /// Returns hash and size of the file. Compresses the NAR unless it is in the cache. If the future is dropped, a fill
    /// that runs is completed nevertheless.
    pub(super) async fn fill(&self) -> Result<FileInfo, FillError> {
        let mut nar = self.cache.get_or_fill(self.valid, ClientId::Server).await?;
        // The file has a hash when the fill has ended.
        nar.length().await?;
        self.cache.file_info(&self.valid.info.nar_hash).ok_or(FillError::Abandoned)
    }
}

impl NarSource for CachedNar<'_> {
    type Chunks = CompressedBody;

    async fn open(&self, _: NarFile) -> io::Result<CompressedBody> {
        // Whoever sends it compares its hash with the name.
        let nar = self.cache.get_or_fill(self.valid, ClientId::Server).await.map_err(io::Error::other)?;
        nar.open(None).await.map_err(io::Error::other)
    }
}

impl Chunks for CompressedBody {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_chunk(context)).await.map_err(io::Error::other)
    }
}
