//! A NAR that is cut into chunks for its encoder, whatever pieces it comes in.

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::frame_encoder::CHUNK_SIZE;
use crate::store::{StoreError, VerifyingNar};

/// A chunk of a NAR, or why there are no more.
pub(crate) type Chunk = Result<Vec<u8>, StoreError>;

/// A NAR of which chunks are taken.
pub(crate) struct NarChunks {
    nar: VerifyingNar,
    /// Bytes of the NAR, and how many of them were taken.
    size: u64,
    taken: u64,
    /// The chunk that is not full.
    chunk: Vec<u8>,
    /// What the last chunk has beyond its chunk.
    rest: Bytes,
}

impl NarChunks {
    /// Of a NAR of `size` bytes of which nothing has been read.
    pub(crate) const fn new(nar: VerifyingNar, size: u64) -> Self {
        Self { nar, size, taken: 0, chunk: Vec::new(), rest: Bytes::new() }
    }

    /// Exactly [`CHUNK_SIZE`] bytes, or what is left; nothing after the end. The last chunk comes only when the whole NAR has been
    /// proven, since its last bytes are withheld until then. Safe to drop while pending.
    pub(crate) async fn next(&mut self) -> Chunk {
        if self.chunk.is_empty() {
            // What is left of a NAR that is longer than its path info says is the parser's trouble.
            let left = usize::try_from(self.size.saturating_sub(self.taken)).unwrap_or(CHUNK_SIZE).min(CHUNK_SIZE);
            self.chunk.reserve_exact(left);
        }
        loop {
            let taken = self.rest.len().min(CHUNK_SIZE - self.chunk.len());
            self.chunk.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
            self.taken += taken as u64;
            if self.chunk.len() == CHUNK_SIZE {
                return Ok(std::mem::take(&mut self.chunk));
            }
            match self.nar.chunk().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(std::mem::take(&mut self.chunk)),
            }
        }
    }

    /// Sends what is left, until the end or an error, or until nobody takes it any more.
    pub(crate) async fn send_to(mut self, encoder: mpsc::Sender<Chunk>) {
        loop {
            let chunk = self.next().await;
            let is_last = !matches!(&chunk, Ok(chunk) if !chunk.is_empty());
            if encoder.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    }
}
