//! Cuts a NAR into chunks of equal size for the encoder, whatever chunks it is read in.

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::frame_encoder::CHUNK_SIZE;
use crate::nar_cache::error::FillError;
use crate::nar_cache::fill::nar_source::Nar;

/// A chunk of a NAR, empty at its end, or the reason why reading failed.
pub(crate) type Chunk = Result<Vec<u8>, FillError>;

/// Reads a NAR in chunks of [`CHUNK_SIZE`].
pub(crate) struct NarChunks {
    nar: Nar,
    /// Size of the NAR, and bytes that were read, both in bytes.
    size: u64,
    read: u64,
    /// The chunk that is not full yet.
    chunk: Vec<u8>,
    /// Bytes that were read beyond that chunk.
    rest: Bytes,
}

impl NarChunks {
    /// Reads a NAR of `size` bytes from its start.
    pub(crate) fn new(nar: Nar, size: u64) -> Self {
        Self { nar, size, read: 0, chunk: Vec::new(), rest: Bytes::new() }
    }

    /// Returns exactly [`CHUNK_SIZE`] bytes, or what is left; an empty chunk after the end. The last chunk is returned only after
    /// the whole NAR was verified, since the NAR withholds its last bytes until then. Cancel safe.
    pub(crate) async fn next(&mut self) -> Chunk {
        if self.chunk.is_empty() {
            // The verifying reader reports a NAR that is longer than its path info says.
            let left = usize::try_from(self.size.saturating_sub(self.read)).unwrap_or(CHUNK_SIZE).min(CHUNK_SIZE);
            self.chunk.reserve_exact(left);
        }
        loop {
            let read = self.rest.len().min(CHUNK_SIZE - self.chunk.len());
            self.chunk.extend_from_slice(&self.rest[..read]);
            self.rest.advance(read);
            self.read += read as u64;
            if self.chunk.len() == CHUNK_SIZE {
                return Ok(std::mem::take(&mut self.chunk));
            }
            match self.nar.chunk().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(std::mem::take(&mut self.chunk)),
            }
        }
    }

    /// Sends the remaining chunks, up to the end or an error, or until the receiver is dropped.
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
