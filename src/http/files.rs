//! Bounds on what is done with files at one time.
//!
//! Connections are bounded by `net`, but HTTP/2 asks for many files on one. A request waits for its slot; slots come
//! free, since a client that takes nothing of a response is cut.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that have a file open, a descriptor each: a fourth of the least limit that systems set.
const OPEN: usize = 256;
/// Pieces that are read, a thread each. More would not make a disk faster.
const READS: usize = 16;
/// Bodies that take megabytes until they are sent, up to 10 each.
const LARGE: usize = 32;

/// The slots of all requests.
#[derive(Debug)]
pub(super) struct Files {
    open: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Room for one more, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// There always is one: the semaphores are never closed.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Files {
    /// All slots free.
    pub(super) fn new() -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { open: slots(OPEN), reads: slots(READS), large: slots(LARGE) }
    }

    /// For a request that opens a file: from before it is opened until it is closed.
    pub(super) async fn open(&self) -> Slot {
        free(&self.open).await
    }

    /// For a decoder or the page of a directory, until the last byte has been sent.
    pub(super) async fn large(&self) -> Slot {
        free(&self.large).await
    }

    /// What each piece that is read takes a permit of.
    pub(super) const fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}

async fn free(slots: &Arc<Semaphore>) -> Slot {
    Slot { _permit: Arc::clone(slots).acquire_owned().await.ok() }
}
