//! A NAR on its way through the encoder.
//!
//! Owns the order of the work, which is done unit by unit on `encoder_threads`. Leaves its memory to `room`.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use super::FillError;
use super::encoder_threads::EncoderThreads;
use super::encoding::Encoding;
use super::frames::{FrameEncoder, UNIT};
use super::room::Room;
use crate::store::{Nar, ValidPath};

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
    room: Room,
}

impl Pieces {
    /// Of a NAR of which nothing has been read.
    pub(super) fn new(
        nar: Nar,
        valid: &ValidPath,
        encoding: &Encoding,
        threads: &Arc<EncoderThreads>,
        mut room: Room,
    ) -> Self {
        let size = valid.info.nar_size;
        let encoder = FrameEncoder::new(encoding.clone(), size, room.context());
        let threads = Arc::clone(threads);
        Self { nar, size, taken: 0, rest: Bytes::new(), encoder: Some(encoder), busy: None, threads, room }
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

impl Drop for Pieces {
    fn drop(&mut self) {
        // One that is busy still ends with its unit.
        if let Some(encoder) = self.encoder.take() {
            self.room.give_back(encoder.into_context());
        }
    }
}
