//! Limits on concurrent file I/O and on memory of large responses.
//!
//! `net` limits connections, but one HTTP/2 connection may carry many requests. A request waits for its permit; permits are
//! reclaimed from clients that read their responses slowly while others wait.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::metrics::Metrics;

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

/// Semaphores of the limits.
#[derive(Debug)]
pub(crate) struct IoLimits {
    open_files: FairSemaphore,
    reads: Arc<Semaphore>,
    listings: FairSemaphore,
    large_bodies: FairSemaphore,
    closures: FairSemaphore,
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

    /// Returns the semaphore of which each read takes a permit.
    pub(crate) const fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}
