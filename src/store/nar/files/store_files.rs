//! The files of a store as a source of NARs: their indexes, and the bounds on memory, descriptors and reads.

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

/// Most that the index of one NAR may take, in bytes: three hundred thousand entries. Larger ones are left to the daemon.
const MAX_INDEX: usize = 16 << 20;
/// For NARs that are being read, their indexes and pieces, in bytes: 80 of small trees.
const IN_USE: usize = 64 << 20;
/// Memory is counted in these, in bytes.
const GRAIN: usize = 1 << 10;
/// The piece that is withheld, the one that is sent, and the one that is read.
const PIECES: usize = 3 * (PIECE + SLACK);
/// Paths that are indexed at one time; each may take [`MAX_INDEX`] before it is counted.
const INDEXED: usize = 4;
/// How long a tree may be looked through. The largest take a second, and a minute where no inode of them is in memory.
const LONGEST_INDEX: Duration = Duration::from_secs(120);
/// Pieces that are read at one time, two descriptors each. More would not make a disk faster.
const READS: usize = 16;

/// The files of one store.
#[derive(Debug)]
pub(crate) struct StoreFiles {
    real_directory: Arc<Path>,
    /// What all that are being read now have in common; while there are none, no descriptor is held.
    place: Mutex<Weak<OpenStore>>,
    pieces: Arc<BufferPool>,
    kept: Arc<IndexCache>,
    indexed: FairSemaphore,
    memory: FairSemaphore,
    reads: Arc<Semaphore>,
    /// Whether it has been said that the daemon has to help out.
    is_told: AtomicBool,
}

impl StoreFiles {
    /// Nothing of the directory has been looked at.
    pub(crate) fn new(real_directory: &Path, metrics: &Metrics) -> Self {
        Self {
            real_directory: real_directory.into(),
            place: Mutex::default(),
            pieces: BufferPool::new(PIECE + SLACK),
            kept: IndexCache::new(),
            indexed: FairSemaphore::new("nar_index", INDEXED, metrics),
            memory: FairSemaphore::new("nar_files_memory", IN_USE / GRAIN, metrics),
            reads: Arc::new(Semaphore::new(READS)),
            is_told: AtomicBool::new(false),
        }
    }

    /// These bytes of the NAR of a path that looks so; `None` if they are to be had from the daemon.
    pub(crate) async fn open(
        &self,
        expected: &ExpectedNar,
        seen: Option<PathStamp>,
        bytes: Range<u64>,
        client: ClientId,
    ) -> Result<Option<FileStream>, StoreError> {
        let Some(seen) = seen else {
            self.tell(&format_args!("{} is not visible here", expected.path));
            return Ok(None);
        };
        let ((layout, modified), turn) = if let Some(kept) = self.kept.find(expected, seen) {
            (kept, None)
        } else {
            let turn = self.reserve(&self.indexed, 1, expected, client).await?;
            match self.index(expected, seen, turn).await? {
                Some((indexed, turn)) => (indexed, Some(turn)),
                None => return Ok(None),
            }
        };
        let grains = (PIECES + layout.heap_size()).div_ceil(GRAIN);
        let memory = self.reserve(&self.memory, grains, expected, client).await?;
        // While memory is waited for, no more indexes are made than there are turns.
        drop(turn);
        let reader =
            Reader::new(self.common(expected, seen)?, expected.path.clone(), Arc::clone(&layout), modified, bytes);
        let kept = (Arc::clone(&self.kept), expected.path.hash_part());
        let (place, reads) = (self.place(expected), Arc::clone(&self.reads));
        Ok(Some(FileStream::new(reader, place, (layout, modified), kept, reads, memory)))
    }

    /// The store directory, which is opened if nobody has it open, or if the path looks otherwise there.
    fn common(&self, expected: &ExpectedNar, seen: PathStamp) -> Result<Arc<OpenStore>, StoreError> {
        let mut common = self.place.lock().upgrade();
        if let Some(open) = common.take_if(|open| PathStamp::read_at(&open.store, &expected.path) == Some(seen)) {
            return Ok(open);
        }
        let store = open_configured(&self.real_directory);
        let store = store.map_err(|cause| StoreError::file(&self.real_directory, &cause))?;
        let store = store.ok_or_else(|| StoreError::Changed(expected.path.clone()))?;
        let (directory, pieces) = (self.real_directory.to_path_buf(), Arc::clone(&self.pieces));
        let opened = Arc::new(OpenStore { directory, store, pieces });
        *self.place.lock() = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Makes the index. The turn comes back with it, or when a disk that hangs lets go of the thread.
    async fn index(
        &self,
        expected: &ExpectedNar,
        seen: PathStamp,
        turn: Permit,
    ) -> Result<Option<((Arc<Layout>, LastModified), Permit)>, StoreError> {
        let (directory, path) = (Arc::clone(&self.real_directory), expected.path.clone());
        let work = tokio::task::spawn_blocking(move || {
            let turn = turn;
            let unreadable = |cause| NoIndex::Unreadable(directory.to_path_buf(), cause);
            let store = open_configured(&directory).map_err(unreadable)?;
            let store = store.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
            let index = crate::store::nar::files::index::index(&store, &path, MAX_INDEX)?;
            // Whether it may be used again.
            Ok((index, PathStamp::read(&directory, &path) == Some(seen), turn))
        });
        let done = tokio::time::timeout(LONGEST_INDEX, work).await.map_err(io::Error::from);
        let done = done.and_then(|done| done.map_err(io::Error::other));
        let done = done.map_err(|cause| StoreError::file(&self.place(expected), &cause))?;
        let (Index { layout, nar_size, modified }, is_same, turn) = match done {
            Ok(done) => done,
            Err(NoIndex::Special(below)) => {
                return Err(StoreError::UnsupportedFileType(self.real_directory.join(below)));
            }
            Err(NoIndex::TooLarge) => return Ok(None),
            Err(NoIndex::Unreadable(below, cause)) => {
                self.tell(&format_args!("cannot read {}: {cause}", self.real_directory.join(below).display()));
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
            self.kept.add(expected, seen, &layout, modified);
        }
        Ok(Some(((layout, modified), turn)))
    }

    async fn reserve(
        &self,
        of: &FairSemaphore,
        amount: usize,
        expected: &ExpectedNar,
        client: ClientId,
    ) -> Result<Permit, StoreError> {
        let share = tokio::time::timeout(Deadline::FreeNarStream.duration(), of.acquire(client, amount)).await;
        share.map_err(|_| StoreError::file(&self.place(expected), &io::Error::other("too many NARs are being read")))
    }

    fn place(&self, expected: &ExpectedNar) -> PathBuf {
        self.real_directory.join(expected.path.base_name())
    }

    fn tell(&self, why: &dyn fmt::Display) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("cannot read some store paths directly, falling back to nix-daemon: {why}");
        }
    }
}
