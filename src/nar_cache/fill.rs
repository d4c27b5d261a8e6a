//! Filling: one NAR from the daemon through the encoder to the disk, while others read what is written so far.
//!
//! A fill runs in a task of its own, so that no client that leaves stops it. It ends in one of three ways, which all who
//! wait are told: the whole is there, the NAR cannot be had (nobody gets more than what was written), or the disk cannot
//! be written (whoever reads goes on without it, see `source`).

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::FillError;
use super::disk::{Disk, Unnamed};
use super::encode::Pieces;
use super::entry::EntryWriter;
use super::index::Key;
use crate::client::Client;

/// How far a fill is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// Bytes that can be read.
    pub(super) written: u64,
    /// How it ended: all is written, or why no more will be.
    pub(super) end: Option<Result<(), FillError>>,
}

/// A fill for those who wait for it or read along.
#[derive(Debug, Clone)]
pub(super) struct Fill {
    pub(super) file: Arc<File>,
    pub(super) progress: watch::Receiver<Progress>,
    clients: mpsc::UnboundedSender<Client>,
}

impl Fill {
    /// One more client wants it: a fill that still waits for its turn has that of this client too.
    pub(super) fn join(&self, client: Client) {
        // One that has begun has no need of it.
        let _ = self.clients.send(client);
    }
}

/// The side that fills.
pub(super) struct Filler {
    file: Unnamed,
    progress: watch::Sender<Progress>,
}

/// A fill that has not begun, of what will be written to this file, and the clients that will have joined it.
pub(super) fn prepare(file: Unnamed) -> (Fill, Filler, mpsc::UnboundedReceiver<Client>) {
    let (sender, progress) = watch::channel(Progress { written: 0, end: None });
    let (clients, joining) = mpsc::unbounded_channel();
    (Fill { file: Arc::clone(&file.file), progress, clients }, Filler { file, progress: sender }, joining)
}

impl Filler {
    /// Writes all pieces, and publishes the file. The file has its name before anybody is told that it is whole, unless
    /// only that failed: then it serves those who have it open.
    pub(super) async fn run(self, pieces: Result<Pieces, FillError>, disk: &Arc<Disk>, key: &Key, nar_size: u64) {
        let Self { file, progress } = self;
        let written = match pieces {
            Ok(pieces) => write(pieces, &file, &progress).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(writer) => {
                // All bytes are there and proven: nobody has to wait until they have a name.
                progress.send_modify(|progress| progress.end = Some(Ok(())));
                let (disk, key) = (Arc::clone(disk), key.clone());
                let publish = move || publish(&disk, file, writer, &key, nar_size);
                let published = tokio::task::spawn_blocking(publish).await.map_err(io::Error::other);
                if let Err(cause) = published.and_then(|published| published) {
                    tracing::error!("cannot keep a compressed nar: {cause}");
                }
            }
            Err(error) => progress.send_modify(|progress| progress.end = Some(Err(error))),
        }
    }
}

async fn write(
    mut pieces: Pieces,
    file: &Unnamed,
    progress: &watch::Sender<Progress>,
) -> Result<EntryWriter, FillError> {
    let mut writer = EntryWriter::new(Arc::clone(&file.file));
    while let Some(piece) = pieces.next().await? {
        let written = tokio::task::block_in_place(|| writer.append(&piece));
        let written = written.map_err(|cause| FillError::disk(&cause))?;
        progress.send_modify(|progress| progress.written = written);
    }
    Ok(writer)
}

fn publish(disk: &Disk, file: Unnamed, writer: EntryWriter, key: &Key, nar_size: u64) -> io::Result<()> {
    let info = writer.finish(key.nar_hash, nar_size)?;
    disk.make_room(info.size);
    disk.publish(file, key, info)
}
