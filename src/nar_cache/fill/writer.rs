//! The part of a fill that runs on an encoder's thread: encodes the chunks of a NAR and writes them to disk, so that a
//! stalled disk stops that thread alone.

use std::sync::Arc;

use harmonia_protocol::StorePath;
use tokio::sync::{mpsc, watch};

use super::progress::Progress;
use crate::nar_cache::disk::disk_cache::DiskCache;
use crate::nar_cache::disk::entry::{Entry, EntryWriter};
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::disk::reservation::Reservation;
use crate::nar_cache::encode::chunks::Chunk;
use crate::nar_cache::encode::encoding::Encoding;
use crate::nar_cache::encode::frame_encoder::FrameEncoder;
use crate::nar_cache::error::FillError;
use crate::nar_cache::precompress::queue::PrecompressQueue;

/// Chunks queued for the encoder, so that it need not wait for each read.
pub(super) const QUEUED_CHUNKS: usize = 2;

/// One entry that is to be encoded and written.
pub(super) struct EntryFill {
    pub(super) disk: Arc<DiskCache>,
    pub(super) precompress: Arc<PrecompressQueue>,
    pub(super) encoding: Encoding,
    pub(super) key: EntryKey,
    pub(super) path: StorePath,
    /// Size of the NAR, in bytes.
    pub(super) size: u64,
    pub(super) reservation: Reservation,
    pub(super) progress: Arc<watch::Sender<Progress>>,
}

impl EntryFill {
    /// Encodes and writes the NAR to its end, and publishes the entry. Blocks the thread.
    pub(super) fn write(self, mut chunks: mpsc::Receiver<Chunk>) -> Result<Arc<Entry>, FillError> {
        let Self { disk, precompress, encoding, key, path, size, mut reservation, progress } = self;
        let failed = |cause| FillError::disk(&cause);
        let mut encoder = FrameEncoder::new(encoding, size);
        let mut file = None;
        loop {
            let Some(chunk) = chunks.blocking_recv() else { return Err(FillError::Abandoned) };
            let chunk = chunk?;
            if chunk.is_empty() {
                break;
            }
            let output = encoder.encode(&chunk).map_err(|cause| FillError::encoder(&cause))?;
            let written = disk.threads().run_here(|| {
                let (_, writer) = match &mut file {
                    Some(file) => file,
                    none => {
                        let temporary = disk.create(size)?;
                        progress.send_modify(|progress| progress.file = Some(Arc::clone(&temporary.file)));
                        let writer = EntryWriter::new(Arc::clone(&temporary.file));
                        none.insert((temporary, writer))
                    }
                };
                reservation.grow(output.len() as u64);
                writer.append(&output)
            });
            let written = written.map_err(failed)?;
            progress.send_modify(|progress| progress.written = written);
        }
        match file.filter(|_| encoder.is_finished()) {
            Some((file, writer)) => disk.threads().run_here(|| {
                let info = writer.finish(key.nar_hash, size, path.base_name())?;
                disk.publish(file, &key, info, !precompress.is_unfetched(&key), reservation)
            }),
            None => return Err(FillError::Abandoned),
        }
        .map_err(failed)
    }
}
