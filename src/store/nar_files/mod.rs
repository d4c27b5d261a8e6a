//! NARs read from the store's own files, where they are visible here, under the daemon's path info.
//!
//! Owns which paths can be read so, the indexes that are kept in memory, and the bounds on all of it. `index` looks
//! through a store path, `reader` reads a NAR by the index, `stream` waits for the disk off the threads that serve, `open` keeps
//! every way inside the path. Leaves to `nar` the proof that the bytes are what the daemon says of them: this is only
//! another source.
//!
//! What cannot be read here is the daemon's to dump, which is said once in the log. A thing that no NAR can hold, and a
//! tree whose NAR would have another size than the daemon says, are errors at once.

mod index;
mod open;
mod reader;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harmonia_protocol::HashPart;
use harmonia_protocol::nar::Layout;
use tokio::sync::Semaphore;

pub(super) use stream::FileStream;

use super::proven::Claim;
use super::regular_file::open_configured;
use super::sighting::Sighting;
use super::{Step, StoreError};
use crate::bounded::Bounded;
use crate::client::Client;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;
use index::{Index, NoIndex};
use reader::{PIECE, Reader};

/// For indexes that are kept, in bytes: those of three thousand paths of two hundred files.
const KEPT: usize = 32 << 20;
/// Most that the index of one NAR may take, in bytes: three hundred thousand entries. Larger ones are left to the daemon.
const MAX_INDEX: usize = 16 << 20;
/// For NARs that are being read, their indexes and pieces, in bytes: 80 of small trees.
const IN_USE: usize = 64 << 20;
/// Memory is counted in these, in bytes.
const GRAIN: usize = 1 << 10;
/// The piece that is withheld, the one that is sent, and the one that is read.
const PIECES: usize = 3 * PIECE;
/// Paths that are indexed at one time; each may take [`MAX_INDEX`] before it is counted.
const INDEXED: usize = 4;
/// How long a tree may be looked through. The largest take a second, and a minute where no inode of them is in memory.
const LONGEST_INDEX: Duration = Duration::from_secs(120);
/// Pieces that are read at one time, two descriptors each. More would not make a disk faster.
const READS: usize = 16;

/// The files of one store.
#[derive(Debug)]
pub(super) struct NarFiles {
    real_directory: Arc<Path>,
    kept: Mutex<Bounded<HashPart, Kept>>,
    indexed: FairSemaphore,
    memory: FairSemaphore,
    reads: Arc<Semaphore>,
    /// Whether it has been said that the daemon has to help out.
    is_told: AtomicBool,
}

/// The index of a path as it looked then.
#[derive(Debug)]
struct Kept {
    seen: Sighting,
    nar_size: u64,
    layout: Arc<Layout>,
}

impl NarFiles {
    /// Nothing of the directory has been looked at.
    pub(super) fn new(real_directory: &Path, metrics: &Metrics) -> Self {
        Self {
            real_directory: real_directory.into(),
            kept: Mutex::new(Bounded::new(KEPT)),
            indexed: FairSemaphore::new("nar_index", INDEXED, metrics),
            memory: FairSemaphore::new("nar_files_memory", IN_USE / GRAIN, metrics),
            reads: Arc::new(Semaphore::new(READS)),
            is_told: AtomicBool::new(false),
        }
    }

    /// These bytes of the NAR of a path that looks so; `None` if they are to be had from the daemon. Those of a path that is
    /// proven, which nobody hashes, come only while it looks so.
    pub(super) async fn open(
        &self,
        claim: &Claim,
        seen: Option<Sighting>,
        is_proven: bool,
        bytes: Range<u64>,
        client: Client,
    ) -> Result<Option<FileStream>, StoreError> {
        let Some(seen) = seen else {
            self.tell(&format_args!("{} is not visible here", claim.path));
            return Ok(None);
        };
        let (layout, turn) = if let Some(kept) = self.kept(claim, seen) {
            (kept, None)
        } else {
            let turn = self.reserve(&self.indexed, 1, claim, client).await?;
            match self.index(claim, seen, turn).await? {
                Some((layout, turn)) => (layout, Some(turn)),
                None => return Ok(None),
            }
        };
        let grains = (PIECES + layout.weight()).div_ceil(GRAIN);
        let memory = self.reserve(&self.memory, grains, claim, client).await?;
        // While memory is waited for, no more indexes are made than there are turns.
        drop(turn);
        let (directory, path, unhashed) = (&self.real_directory, claim.path.clone(), is_proven.then_some(seen));
        let reader = Reader::new(Arc::clone(directory), path, unhashed, Arc::clone(&layout), bytes);
        Ok(Some(FileStream::new(reader, self.place(claim), layout, Arc::clone(&self.reads), memory)))
    }

    /// The index that was made of the path as it looks.
    fn kept(&self, claim: &Claim, seen: Sighting) -> Option<Arc<Layout>> {
        let mut kept = self.locked();
        let kept = kept.find(&claim.path.hash_part())?;
        (kept.seen == seen && kept.nar_size == claim.nar_size).then(|| Arc::clone(&kept.layout))
    }

    /// Makes the index. The turn comes back with it, or when a disk that hangs lets go of the thread.
    async fn index(
        &self,
        claim: &Claim,
        seen: Sighting,
        turn: Permit,
    ) -> Result<Option<(Arc<Layout>, Permit)>, StoreError> {
        let (directory, path) = (Arc::clone(&self.real_directory), claim.path.clone());
        let work = tokio::task::spawn_blocking(move || {
            let turn = turn;
            let unreadable = |cause| NoIndex::Unreadable(directory.to_path_buf(), cause);
            let store = open_configured(&directory).map_err(unreadable)?;
            let store = store.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
            let index = index::index(&store, &path, MAX_INDEX)?;
            // Whether it may be used again.
            Ok((index, Sighting::of(&directory, &path) == Some(seen), turn))
        });
        let done = tokio::time::timeout(LONGEST_INDEX, work).await.map_err(io::Error::from);
        let done = done.and_then(|done| done.map_err(io::Error::other));
        let done = done.map_err(|cause| StoreError::file(&self.place(claim), &cause))?;
        let (Index { layout, nar_size }, is_same, turn) = match done {
            Ok(done) => done,
            Err(NoIndex::Special(below)) => return Err(StoreError::Special(self.real_directory.join(below))),
            Err(NoIndex::TooLarge) => return Ok(None),
            Err(NoIndex::Unreadable(below, cause)) => {
                self.tell(&format_args!("cannot read {}: {cause}", self.real_directory.join(below).display()));
                return Ok(None);
            }
        };
        if nar_size != claim.nar_size {
            let (path, expected) = (claim.path.clone(), claim.nar_size);
            if !is_same {
                return Err(StoreError::Changed(path));
            }
            return Err(StoreError::WrongSize { path, expected, found: nar_size });
        }
        let layout = Arc::new(layout);
        if is_same {
            let kept = Kept { seen, nar_size, layout: Arc::clone(&layout) };
            self.locked().insert(claim.path.hash_part(), kept, layout.weight());
        }
        Ok(Some((layout, turn)))
    }

    async fn reserve(
        &self,
        of: &FairSemaphore,
        amount: usize,
        claim: &Claim,
        client: Client,
    ) -> Result<Permit, StoreError> {
        let share = tokio::time::timeout(Step::FreeNarStream.deadline(), of.acquire(client, amount)).await;
        share.map_err(|_| StoreError::file(&self.place(claim), &io::Error::other("too many others are being read")))
    }

    fn place(&self, claim: &Claim) -> PathBuf {
        self.real_directory.join(claim.path.base_name())
    }

    fn tell(&self, why: &dyn fmt::Display) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!("nars of paths that cannot be read here are read from the nix daemon: {why}");
        }
    }

    fn locked(&self) -> MutexGuard<'_, Bounded<HashPart, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
