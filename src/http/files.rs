//! Bounds on what is done with files at one time.
//!
//! Connections are bounded by `net`, but HTTP/2 asks for many files on one. A request waits for its place; places come
//! free, since a client that takes little of a response loses its place to those who wait.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;

/// Requests that have a file open, a descriptor each: a fourth of the least limit that systems set.
const OPEN: usize = 256;
/// Pieces that are read, a thread each. More would not make a disk faster.
const READS: usize = 16;
/// Listings, which have a NAR each, and wait for that with nothing that others need.
const LISTINGS: usize = 32;
/// Bodies that take megabytes until they are sent, up to 10 each.
const LARGE: usize = 32;
/// Walks through closures for people, up to 8 megabytes each.
const CLOSURES: usize = 4;

/// The places of all requests.
#[derive(Debug)]
pub(super) struct Files {
    open: FairSemaphore,
    reads: Arc<Semaphore>,
    listings: FairSemaphore,
    large: FairSemaphore,
    closures: FairSemaphore,
}

impl Files {
    /// All places free.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |name, permits| FairSemaphore::new(name, permits, metrics);
        Self {
            open: of("open_file", OPEN),
            reads: Arc::new(Semaphore::new(READS)),
            listings: of("listing", LISTINGS),
            large: of("large_body", LARGE),
            closures: of("closure", CLOSURES),
        }
    }

    /// For a request that opens a file: from before it is opened until it is closed.
    pub(super) async fn open(&self, client: ClientId) -> Permit {
        self.open.acquire(client, 1).await
    }

    /// For a listing, from before its NAR is opened until the last byte has been sent.
    pub(super) async fn listing(&self, client: ClientId) -> Permit {
        self.listings.acquire(client, 1).await
    }

    /// For a decoder or the page of a directory, until the last byte has been sent.
    pub(super) async fn large(&self, client: ClientId) -> Permit {
        self.large.acquire(client, 1).await
    }

    /// For a walk through a closure or through names, which takes a second at the most.
    pub(super) async fn closure(&self, client: ClientId) -> Permit {
        self.closures.acquire(client, 1).await
    }

    /// What each piece that is read takes a permit of.
    pub(super) const fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}
