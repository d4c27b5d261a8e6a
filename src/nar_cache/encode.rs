//! A NAR on its way through the encoder.
//!
//! Owns the order of the work: reading from the daemon, encoding on `encoder_threads`, and handing on go on at once, unit
//! by unit, and none is far ahead of the others. Leaves the memory of encoders to `room`.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::encoder_threads::EncoderThreads;
use super::encoding::Encoding;
use super::frames::{FrameEncoder, UNIT};
use super::room::Room;
use super::{FillError, locked};
use crate::store::{Nar, ValidPath};

/// Units that are encoded or wait for it; with the one that is being read, and what the last one came to, that is the
/// memory that a NAR has beside its encoder's. The second is there so that the encoder goes on without waiting for us.
const UNITS: usize = 2;

/// The compressed form of a NAR, piece by piece.
pub(super) struct Pieces {
    reader: Reader,
    desk: Arc<Desk>,
    outputs: mpsc::UnboundedReceiver<io::Result<Vec<u8>>>,
    /// Units whose output has not come.
    under_way: usize,
    is_read: bool,
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
        let reader = Reader { nar, size, taken: 0, unit: Vec::new(), rest: Bytes::new() };
        let (sender, outputs) = mpsc::unbounded_channel();
        let encoder = FrameEncoder::new(encoding.clone(), size, room.context());
        let desk = Desk { units: Mutex::default(), work: Mutex::new(Some(Work { encoder, outputs: sender })) };
        let (desk, threads) = (Arc::new(desk), Arc::clone(threads));
        Self { reader, desk, outputs, under_way: 0, is_read: false, threads, room }
    }

    /// The next piece; nothing after the last one. The last frame is finished only when the whole NAR has been proven,
    /// since its last bytes are withheld until then. Safe to drop while pending.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, FillError> {
        loop {
            let (may_read, may_wait) = (!self.is_read && self.under_way < UNITS, self.under_way > 0);
            if !may_read && !may_wait {
                return Ok(None);
            }
            tokio::select! {
                // What is there is handed on first.
                biased;
                output = self.outputs.recv(), if may_wait => {
                    self.under_way -= 1;
                    let output = output.unwrap_or_else(|| Err(io::Error::other("the encoder is gone")));
                    let output = output.map_err(|cause| FillError::encoder(&cause))?;
                    if !output.is_empty() {
                        return Ok(Some(output));
                    }
                }
                unit = self.reader.unit(), if may_read => {
                    let unit = unit?;
                    if unit.is_empty() {
                        self.is_read = true;
                    } else {
                        self.encode(unit)?;
                    }
                }
            }
        }
    }

    fn encode(&mut self, unit: Vec<u8>) -> Result<(), FillError> {
        self.under_way += 1;
        if self.desk.lay_on(unit) {
            let desk = Arc::clone(&self.desk);
            self.threads.run(move || desk.encode_one()).map_err(|cause| FillError::encoder(&cause))?;
        }
        Ok(())
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // One that is at work ends with its unit, and with it its context.
        if let Some(work) = self.desk.work().take() {
            self.room.give_back(work.encoder.into_context());
        }
    }
}

/// A NAR that is cut into units.
struct Reader {
    nar: Nar,
    /// Of the NAR, and how much of it was taken, in bytes.
    size: u64,
    taken: u64,
    /// The unit that is not full.
    unit: Vec<u8>,
    /// What the last chunk has beyond its unit.
    rest: Bytes,
}

impl Reader {
    /// Exactly [`UNIT`] bytes, or what is left. Safe to drop while pending.
    async fn unit(&mut self) -> Result<Vec<u8>, FillError> {
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
}

/// Where units wait for the one thread that encodes them.
struct Desk {
    units: Mutex<Units>,
    /// Nothing while a unit is encoded, and after a panic.
    work: Mutex<Option<Work>>,
}

#[derive(Default)]
struct Units {
    waiting: VecDeque<Vec<u8>>,
    /// Whether a thread has been called, and has not found the desk empty since.
    is_called: bool,
}

struct Work {
    encoder: FrameEncoder,
    /// Gone with the work, so that whoever waits for an output learns of a panic.
    outputs: mpsc::UnboundedSender<io::Result<Vec<u8>>>,
}

impl Desk {
    /// Adds a unit; whether a thread has to be called.
    fn lay_on(&self, unit: Vec<u8>) -> bool {
        let mut units = locked(&self.units);
        units.waiting.push_back(unit);
        !std::mem::replace(&mut units.is_called, true)
    }

    /// Encodes the next unit, on the thread that was called; whether there was one. It is the only one here.
    fn encode_one(&self) -> bool {
        let unit = {
            let mut units = locked(&self.units);
            let unit = units.waiting.pop_front();
            units.is_called = unit.is_some();
            unit
        };
        let Some(unit) = unit else { return false };
        // Taken by whoever does not wait any more.
        let Some(mut work) = self.work().take() else { return false };
        let output = work.encoder.encode(&unit);
        let outputs = work.outputs.clone();
        // First: whoever has had the last output takes the encoder.
        *self.work() = Some(work);
        outputs.send(output).is_ok()
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        locked(&self.work)
    }
}
