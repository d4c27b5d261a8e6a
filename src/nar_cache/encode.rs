//! A NAR on its way through the encoder.
//!
//! Owns the memory of encoders, which live as long as their NAR. Who waits for it is served by turns, and small NARs have
//! memory apart from that of large ones, so that they need not wait for the end of one. The work itself is done unit by
//! unit on `encoder_threads`.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::{mpsc, oneshot};

use super::FillError;
use super::encoder_threads::EncoderThreads;
use super::encoding::Encoding;
use super::frames::{FrameEncoder, UNIT};
use crate::client::Client;
use crate::shares::{Share, Shares};
use crate::store::{Nar, ValidPath};

/// What a share of memory is counted in, in bytes.
const GRAIN: usize = 1 << 20;
/// The most that the encoder of a small NAR takes, in grains: of one of up to 3.5 MiB.
const SMALL: usize = 8;

/// Room for encoders.
#[derive(Debug)]
pub(super) struct Encoders {
    threads: Arc<EncoderThreads>,
    small: Shares,
    large: Shares,
    max_large: usize,
}

/// How much memory there is, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// For NARs that take little.
    pub(super) small: usize,
    /// For all others.
    pub(super) large: usize,
}

impl Encoders {
    /// So much memory, which is shared like this.
    pub(super) fn new(threads: &Arc<EncoderThreads>, memory: Memory, shares: fn(usize) -> Shares) -> Self {
        let (small, large) = (shares(memory.small / GRAIN), shares(memory.large / GRAIN));
        Self { threads: Arc::clone(threads), small, large, max_large: memory.large / GRAIN }
    }

    /// Waits for the memory that an encoder of a NAR of `size` bytes takes.
    pub(super) async fn reserve(&self, encoding: &Encoding, size: u64, client: Client) -> Share {
        let (shares, grains) = self.memory(encoding, size);
        shares.take(client, grains).await
    }

    /// The same for all clients that come, by the turn of whichever is first.
    pub(super) async fn reserve_for_any(
        &self,
        encoding: &Encoding,
        size: u64,
        clients: mpsc::UnboundedReceiver<Client>,
    ) -> Share {
        let (shares, grains) = self.memory(encoding, size);
        shares.take_for_any(clients, grains).await
    }

    fn memory(&self, encoding: &Encoding, size: u64) -> (&Shares, usize) {
        let grains = encoding.memory(size).div_ceil(GRAIN);
        // One that takes more than there is has it all.
        if grains <= SMALL { (&self.small, grains) } else { (&self.large, grains.min(self.max_large)) }
    }
}

/// The encoder back, and what a unit came to.
type Work = oneshot::Receiver<io::Result<(FrameEncoder, Vec<u8>)>>;

/// The compressed form of a NAR, piece by piece.
pub(super) struct Pieces {
    nar: Nar,
    /// Of the NAR, and how much of it was taken, in bytes.
    size: u64,
    taken: u64,
    /// What the last chunk has beyond its unit.
    rest: Bytes,
    encoder: Option<FrameEncoder>,
    busy: Option<Work>,
    threads: Arc<EncoderThreads>,
    _memory: Share,
}

impl Pieces {
    /// Of a NAR of which nothing has been read.
    pub(super) fn new(nar: Nar, valid: &ValidPath, encoding: &Encoding, encoders: &Encoders, memory: Share) -> Self {
        let encoder = FrameEncoder::new(encoding.clone(), valid.info.nar_size);
        let threads = Arc::clone(&encoders.threads);
        let size = valid.info.nar_size;
        Self { nar, size, taken: 0, rest: Bytes::new(), encoder: Some(encoder), busy: None, threads, _memory: memory }
    }

    /// The next piece; nothing after the last one. The last frame is finished only when the whole NAR has been proven,
    /// since its last bytes are withheld until then. Not cancel safe: a future that was dropped has lost a piece.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, FillError> {
        loop {
            // Reading goes on while the unit before is encoded.
            let unit = self.unit().await?;
            let before = match self.busy.take() {
                Some(work) => {
                    let done = work.await.map_err(io::Error::other).and_then(|done| done);
                    let (encoder, output) = done.map_err(|cause| FillError::encoder(&cause))?;
                    self.encoder = Some(encoder);
                    Some(output)
                }
                None => None,
            };
            match (unit.is_empty(), self.encoder.take()) {
                (false, Some(encoder)) => self.busy = Some(self.encode(encoder, unit)?),
                (_, encoder) => {
                    self.encoder = encoder;
                    if before.is_none() {
                        return Ok(None);
                    }
                }
            }
            if let Some(output) = before.filter(|output| !output.is_empty()) {
                return Ok(Some(output));
            }
        }
    }

    /// Exactly [`UNIT`] bytes, or what is left.
    async fn unit(&mut self) -> Result<Vec<u8>, FillError> {
        // What is left of a NAR that is longer than its path info says is the parser's trouble.
        let left = usize::try_from(self.size.saturating_sub(self.taken)).unwrap_or(UNIT).min(UNIT);
        let mut unit = Vec::with_capacity(left);
        loop {
            let taken = self.rest.len().min(UNIT - unit.len());
            unit.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
            self.taken += taken as u64;
            if unit.len() == UNIT {
                return Ok(unit);
            }
            match self.nar.chunk().await? {
                Some(bytes) => self.rest = bytes,
                None => return Ok(unit),
            }
        }
    }

    fn encode(&self, mut encoder: FrameEncoder, unit: Vec<u8>) -> Result<Work, FillError> {
        let work = self.threads.run(move || {
            let output = encoder.encode(&unit)?;
            Ok((encoder, output))
        });
        work.map_err(|cause| FillError::encoder(&cause))
    }
}
