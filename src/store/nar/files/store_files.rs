//! Opens NARs from the store's files, within limits on memory, file descriptors and concurrent reads.

#[cfg(test)]
mod tests;

use crate::sync::Mutex;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use harmonia_protocol::nar::Layout;
use tokio::sync::Semaphore;

use crate::store::nar::files::open::LastModified;
use crate::store::nar::files::stream::FileStream;

use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::store::daemon::deadline::Deadline;
use crate::store::error::StoreError;
use crate::store::files::regular_file::open_configured;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::buffer_pool::BufferPool;
use crate::store::nar::files::index::{Index, NoIndex};
use crate::store::nar::files::index_cache::IndexCache;
use crate::store::nar::files::reader::{OpenStore, PIECE, Reader, SLACK};
use crate::store::path_info::path_stamp::PathStamp;

/// Size limit of the index of one NAR, in bytes: about 300,000 entries. nix-daemon dumps larger ones.
const MAX_INDEX: usize = 16 << 20;
/// Memory limit of the indexes and buffers of all NARs being read, in bytes: about 80 small trees.
const MAX_MEMORY: usize = 64 << 20;
/// Bytes per permit of the memory limit.
const GRAIN: usize = 1 << 10;
/// Buffers of one NAR, in bytes: the piece being read, the one being sent, and the withheld one.
const PIECES: usize = 3 * (PIECE + SLACK);
/// Limit of concurrently indexed paths, each of which may use [`MAX_INDEX`] before its memory is counted.
const MAX_INDEXING: usize = 4;
/// Time limit for indexing one path. The largest take a second, or a minute if no inode is cached.
const INDEX_TIMEOUT: Duration = Duration::from_secs(120);
/// Limit of concurrent reads from disk, which use two file descriptors each. More would not be faster.
const MAX_READS: usize = 16;

/// The store's files as a source of NARs.
#[derive(Debug)]
pub(crate) struct StoreFiles {
    real_directory: Arc<Path>,
    /// Open store directory, shared by all readers and closed with the last one.
    open_store: Mutex<Weak<OpenStore>>,
    pieces: Arc<BufferPool>,
    index_cache: Arc<IndexCache>,
    indexing: FairSemaphore,
    memory: FairSemaphore,
    reads: Arc<Semaphore>,
    /// Set once the fallback to nix-daemon has been logged.
    has_warned: AtomicBool,
}

impl StoreFiles {
    /// Creates a source of the files in `real_directory`, which is not accessed yet.
    pub(crate) fn new(real_directory: &Path, metrics: &Metrics) -> Self {
        Self {
            real_directory: real_directory.into(),
            open_store: Mutex::default(),
            pieces: BufferPool::new(PIECE + SLACK),
            index_cache: IndexCache::new(),
            indexing: FairSemaphore::new("nar_index", MAX_INDEXING, metrics),
            memory: FairSemaphore::new("nar_files_memory", MAX_MEMORY / GRAIN, metrics),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Opens a range of the NAR of a path at this stamp; `None` if nix-daemon has to dump it.
    ///
    /// Waits for its share of the limits, up to a deadline.
    pub(crate) async fn open(
        &self,
        expected: &ExpectedNar,
        stamp: Option<PathStamp>,
        bytes: Range<u64>,
        client: ClientId,
    ) -> Result<Option<FileStream>, StoreError> {
        let Some(stamp) = stamp else {
            self.warn_once(&format_args!("{} is not visible here", expected.path));
            return Ok(None);
        };
        let ((layout, modified), index_permit) = if let Some(cached) = self.index_cache.find(expected, stamp) {
            (cached, None)
        } else {
            let index_permit = self.reserve(&self.indexing, 1, expected, client).await?;
            match self.index(expected, stamp, index_permit).await? {
                Some((index, index_permit)) => (index, Some(index_permit)),
                None => return Ok(None),
            }
        };
        let grains = (PIECES + layout.heap_size()).div_ceil(GRAIN);
        let memory = self.reserve(&self.memory, grains, expected, client).await?;
        // Held until here, so that at most `MAX_INDEXING` indexes wait for memory.
        drop(index_permit);
        let reader =
            Reader::new(self.open_store(expected, stamp)?, expected.path.clone(), Arc::clone(&layout), modified, bytes);
        let cached = (Arc::clone(&self.index_cache), expected.path.hash_part());
        let (path, reads) = (self.real_path(expected), Arc::clone(&self.reads));
        Ok(Some(FileStream::new(reader, path, (layout, modified), cached, reads, memory)))
    }

    /// Returns the open store directory; opens it if it is not, or if the path has another stamp in it.
    fn open_store(&self, expected: &ExpectedNar, stamp: PathStamp) -> Result<Arc<OpenStore>, StoreError> {
        let mut shared = self.open_store.lock().upgrade();
        if let Some(open) = shared.take_if(|open| PathStamp::read_at(&open.store, &expected.path) == Some(stamp)) {
            return Ok(open);
        }
        let store = open_configured(&self.real_directory);
        let store = store.map_err(|cause| StoreError::file(&self.real_directory, &cause))?;
        let store = store.ok_or_else(|| StoreError::Changed(expected.path.clone()))?;
        let (directory, pieces) = (self.real_directory.to_path_buf(), Arc::clone(&self.pieces));
        let opened = Arc::new(OpenStore { directory, store, pieces });
        *self.open_store.lock() = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Indexes a path on a blocking thread, which holds the permit until it ends, even after a timeout. Returns the
    /// permit.
    async fn index(
        &self,
        expected: &ExpectedNar,
        stamp: PathStamp,
        permit: Permit,
    ) -> Result<Option<((Arc<Layout>, LastModified), Permit)>, StoreError> {
        let (directory, path) = (Arc::clone(&self.real_directory), expected.path.clone());
        let work = tokio::task::spawn_blocking(move || {
            let permit = permit;
            let unreadable = |cause| NoIndex::Unreadable(directory.to_path_buf(), cause);
            let store = open_configured(&directory).map_err(unreadable)?;
            let store = store.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
            let index = crate::store::nar::files::index::index(&store, &path, MAX_INDEX)?;
            // Only an index of an unchanged path may be cached.
            Ok((index, PathStamp::read(&directory, &path) == Some(stamp), permit))
        });
        let done = tokio::time::timeout(INDEX_TIMEOUT, work).await.map_err(io::Error::from);
        let done = done.and_then(|done| done.map_err(io::Error::other));
        let done = done.map_err(|cause| StoreError::file(&self.real_path(expected), &cause))?;
        let (Index { layout, nar_size, modified }, is_same, permit) = match done {
            Ok(done) => done,
            Err(NoIndex::Special(below)) => {
                return Err(StoreError::UnsupportedFileType(self.real_directory.join(below)));
            }
            Err(NoIndex::TooLarge) => return Ok(None),
            Err(NoIndex::Unreadable(below, cause)) => {
                self.warn_once(&format_args!("cannot read {}: {cause}", self.real_directory.join(below).display()));
                return Ok(None);
            }
        };
        if nar_size != expected.nar_size {
            let (path, expected) = (expected.path.clone(), expected.nar_size);
            if !is_same {
                return Err(StoreError::Changed(path));
            }
            return Err(StoreError::WrongSize { path, expected, found: nar_size });
        }
        let layout = Arc::new(layout);
        if is_same {
            self.index_cache.add(expected, stamp, &layout, modified);
        }
        Ok(Some(((layout, modified), permit)))
    }

    async fn reserve(
        &self,
        semaphore: &FairSemaphore,
        amount: usize,
        expected: &ExpectedNar,
        client: ClientId,
    ) -> Result<Permit, StoreError> {
        let permit = tokio::time::timeout(Deadline::FreeNarStream.duration(), semaphore.acquire(client, amount)).await;
        permit
            .map_err(|_| StoreError::file(&self.real_path(expected), &io::Error::other("too many NARs are being read")))
    }

    fn real_path(&self, expected: &ExpectedNar) -> PathBuf {
        self.real_directory.join(expected.path.base_name())
    }

    fn warn_once(&self, why: &dyn fmt::Display) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("cannot read some store paths directly, falling back to nix-daemon: {why}");
        }
    }
}
