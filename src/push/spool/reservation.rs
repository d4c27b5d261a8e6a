//! Space for a file that is being uploaded.

use std::sync::Arc;

use super::error::SpoolError;
use super::ledger::{Ledger, space};
use super::owner::{Key, Owner};
use crate::sync::Mutex;
use tokio::time::Instant;

/// Space by which a file of unknown size grows, in bytes.
const STEP: u64 = 8 << 20;

/// Space for one file. Dropping it frees the space.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Arc<Mutex<Ledger>>,
    owner: Owner,
    /// Bytes that are reserved.
    space: u64,
    /// Bytes of the file so far.
    size: u64,
}

impl Reservation {
    /// Reserves space for a file of this size, or the first step of one whose size is not known.
    pub(super) fn new(ledger: &Arc<Mutex<Ledger>>, owner: Owner, size: Option<u64>) -> Result<Self, SpoolError> {
        let mut locked = ledger.lock();
        locked.check_size(size.unwrap_or_default())?;
        let space = space(size.unwrap_or_default());
        locked.reserve(owner, space, 1)?;
        drop(locked);
        Ok(Self { ledger: Arc::clone(ledger), owner, space, size: 0 })
    }

    /// Returns whose space it is.
    pub(super) const fn owner(&self) -> Owner {
        self.owner
    }

    /// Makes sure that there is space for that many further bytes, and counts them as written.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let size = self.size.saturating_add(bytes);
        let mut ledger = self.ledger.lock();
        ledger.check_size(size)?;
        if size > self.space {
            let (least, most) = (space(size) - self.space, STEP.max(space(size) - self.space));
            let more = match ledger.reserve(self.owner, most, 0) {
                Ok(()) => most,
                // The last step may be smaller.
                Err(_) => ledger.reserve(self.owner, least, 0).map(|()| least)?,
            };
            self.space += more;
        }
        ledger.written(bytes);
        self.size = size;
        Ok(())
    }

    /// Makes the space that of a complete file.
    pub(super) fn complete(mut self, key: Key) {
        let used = space(self.size);
        let mut ledger = self.ledger.lock();
        ledger.written(self.space.saturating_sub(self.size));
        ledger.release(self.owner, self.space.saturating_sub(used), 0);
        ledger.add(key, used, Instant::now());
        drop(ledger);
        self.space = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Complete files have theirs in the ledger.
        if self.space > 0 {
            let mut ledger = self.ledger.lock();
            ledger.written(self.space.saturating_sub(self.size));
            ledger.release(self.owner, self.space, 1);
        }
    }
}
