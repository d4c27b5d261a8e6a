//! A NAR on its way through the encoder.
//!
//! Owns what is bounded there: the units that are encoded at one time, one a processor, and the memory of encoders, which
//! live as long as their NAR. The work is done on the blocking threads. Who waits for memory is served in turn, so large
//! NARs get theirs too.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::FillError;
use super::encoding::Encoding;
use super::frames::{FrameEncoder, UNIT};
use crate::store::{Nar, ValidPath};

/// What a permit for memory stands for, in bytes.
const GRAIN: usize = 1 << 20;

/// Room for encoders.
#[derive(Debug, Clone)]
pub(super) struct Encoders {
    units: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    max_memory: usize,
}

impl Encoders {
    /// As many units as there are processors, and so much memory, in bytes.
    pub(super) fn new(memory: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(&Arc::new(Semaphore::new(processors)), memory)
    }

    /// The same units, with memory of its own.
    pub(super) fn apart(&self, memory: usize) -> Self {
        Self::with(&self.units, memory)
    }

    fn with(units: &Arc<Semaphore>, memory: usize) -> Self {
        let max_memory = memory.div_ceil(GRAIN);
        Self { units: Arc::clone(units), memory: Arc::new(Semaphore::new(max_memory)), max_memory }
    }

    /// Waits for the memory that an encoder of a NAR of `size` bytes takes.
    pub(super) async fn reserve(&self, encoding: &Encoding, size: u64) -> Result<OwnedSemaphorePermit, FillError> {
        // One that takes more than there is has it all.
        let grains = encoding.memory(size).div_ceil(GRAIN).min(self.max_memory);
        let grains = u32::try_from(grains).unwrap_or(u32::MAX);
        Arc::clone(&self.memory)
            .acquire_many_owned(grains)
            .await
            .map_err(|cause| FillError::encoder(&io::Error::other(cause)))
    }
}

/// The encoder back, and what a unit came to.
type Work = JoinHandle<io::Result<(FrameEncoder, Vec<u8>)>>;

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
    units: Arc<Semaphore>,
    _memory: OwnedSemaphorePermit,
}

impl Pieces {
    /// Of a NAR of which nothing has been read.
    pub(super) fn new(
        nar: Nar,
        valid: &ValidPath,
        encoding: &Encoding,
        encoders: &Encoders,
        memory: OwnedSemaphorePermit,
    ) -> Self {
        let encoder = FrameEncoder::new(encoding.clone(), valid.info.nar_size);
        let units = Arc::clone(&encoders.units);
        let size = valid.info.nar_size;
        Self { nar, size, taken: 0, rest: Bytes::new(), encoder: Some(encoder), busy: None, units, _memory: memory }
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
                (false, Some(encoder)) => self.busy = Some(self.encode(encoder, unit).await?),
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

    async fn encode(&self, mut encoder: FrameEncoder, unit: Vec<u8>) -> Result<Work, FillError> {
        let permit = Arc::clone(&self.units).acquire_owned().await;
        let permit = permit.map_err(|cause| FillError::encoder(&io::Error::other(cause)))?;
        Ok(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let output = encoder.encode(&unit)?;
            Ok((encoder, output))
        }))
    }
}
