//! A NAR that is cut into units for its encoder, whatever pieces it comes in.

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::frames::UNIT;
use crate::store::{Nar, StoreError};

/// A unit of a NAR, or why there are no more.
pub(super) type Unit = Result<Vec<u8>, StoreError>;

/// A NAR of which units are taken.
pub(super) struct Units {
    nar: Nar,
    /// Bytes of the NAR, and how many of them were taken.
    size: u64,
    taken: u64,
    /// The unit that is not full.
    unit: Vec<u8>,
    /// What the last chunk has beyond its unit.
    rest: Bytes,
}

impl Units {
    /// Of a NAR of `size` bytes of which nothing has been read.
    pub(super) const fn new(nar: Nar, size: u64) -> Self {
        Self { nar, size, taken: 0, unit: Vec::new(), rest: Bytes::new() }
    }

    /// Exactly [`UNIT`] bytes, or what is left; nothing after the end. The last unit comes only when the whole NAR has been
    /// proven, since its last bytes are withheld until then. Safe to drop while pending.
    pub(super) async fn next(&mut self) -> Unit {
        if self.unit.is_empty() {
            // What is left of a NAR that is longer than its path info says is the parser's trouble.
            let left = usize::try_from(self.size.saturating_sub(self.taken)).unwrap_or(UNIT).min(UNIT);
            self.unit.reserve_exact(left);
        }
        loop {
            let taken = self.rest.len().min(UNIT - self.unit.len());
            self.unit.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
            self.taken += taken as u64;
            if self.unit.len() == UNIT {
                return Ok(std::mem::take(&mut self.unit));
            }
            match self.nar.chunk().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(std::mem::take(&mut self.unit)),
            }
        }
    }

    /// Sends what is left, until the end or an error, or until nobody takes it any more.
    pub(super) async fn send_to(mut self, encoder: mpsc::Sender<Unit>) {
        loop {
            let unit = self.next().await;
            let is_last = !matches!(&unit, Ok(unit) if !unit.is_empty());
            if encoder.send(unit).await.is_err() || is_last {
                return;
            }
        }
    }
}
