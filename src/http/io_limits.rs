//! Limits on concurrent file I/O and on memory of large responses.
//!
//! `net` limits connections, but one HTTP/2 connection may carry many requests. A request waits for its permit; permits are
//! reclaimed from clients that read their responses slowly while others wait.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::nar_cache::FRAME_SIZE;

/// Upper bound of files open at once, one descriptor each: a quarter of the smallest limit that systems set.
const OPEN_FILES: usize = 256;
/// Upper bound of concurrent reads, one thread each. More would not make a disk faster.
const READS: usize = 16;
/// Upper bound of listings, each of which reads a NAR.
const LISTINGS: usize = 32;
/// Upper bound of bodies that take megabytes until they are sent, up to 10 each.
const LARGE_BODIES: usize = 32;
/// Upper bound of walks through closures, up to 8 megabytes each.
const CLOSURES: usize = 4;

/// Upper bound of files that are sent while they are read from the object store, a connection each.
const BUCKET_FILES: usize = 64;
/// Memory of decoders of such files, in MiB: one with the largest window, or several with smaller ones.
const DECODER_MEMORY: usize = 160;
/// Memory of a decoder apart from its window, which is no larger than the NAR or this, in MiB.
const DECODER_OVERHEAD: u64 = 1;
const MAX_WINDOW: u64 = FRAME_SIZE >> 20;

/// Semaphores of the limits.
#[derive(Debug)]
pub(crate) struct IoLimits {
    open_files: FairSemaphore,
    reads: Arc<Semaphore>,
    listings: FairSemaphore,
    large_bodies: FairSemaphore,
    closures: FairSemaphore,
    bucket_files: FairSemaphore,
    decoder_memory: FairSemaphore,
}

impl IoLimits {
    /// Creates the semaphores, whose use `metrics` shows.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let semaphore = |name, permits| FairSemaphore::new(name, permits, metrics);
        Self {
            open_files: semaphore("open_file", OPEN_FILES),
            reads: Arc::new(Semaphore::new(READS)),
            listings: semaphore("listing", LISTINGS),
            large_bodies: semaphore("large_body", LARGE_BODIES),
            closures: semaphore("closure", CLOSURES),
            bucket_files: semaphore("bucket_file", BUCKET_FILES),
            decoder_memory: semaphore("bucket_decoder_memory", DECODER_MEMORY),
        }
    }

    /// Acquires the permit to open a file, to be held until it is closed.
    pub(crate) async fn open_file(&self, client: ClientId) -> Permit {
        self.open_files.acquire(client, 1).await
    }

    /// Acquires the permit for a listing, to be held from before its NAR is opened until the last byte is sent.
    pub(crate) async fn listing(&self, client: ClientId) -> Permit {
        self.listings.acquire(client, 1).await
    }

    /// Acquires the permit for a decoder or a directory page, to be held until the last byte is sent.
    pub(crate) async fn large_body(&self, client: ClientId) -> Permit {
        self.large_bodies.acquire(client, 1).await
    }

    /// Acquires the permit for a walk through a closure or all names, which takes a second at most.
    pub(crate) async fn closure(&self, client: ClientId) -> Permit {
        self.closures.acquire(client, 1).await
    }

    /// Acquires the permit to send a file while it is read from the object store, to be held until the last byte is sent.
    pub(crate) async fn bucket_file(&self, client: ClientId) -> Permit {
        self.bucket_files.acquire(client, 1).await
    }

    /// Acquires the memory to decode a NAR of this size in bytes, to be held until the last byte is sent.
    pub(crate) async fn nar_decoder(&self, client: ClientId, nar_size: u64) -> Permit {
        let mebibytes = (nar_size >> 20).min(MAX_WINDOW) + 1 + DECODER_OVERHEAD;
        self.decoder_memory.acquire(client, usize::try_from(mebibytes).unwrap_or(DECODER_MEMORY)).await
    }

    /// Returns the semaphore of which each read takes a permit.
    pub(crate) const fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}
