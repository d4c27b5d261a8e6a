//! The state of one fill, as those who wait for it or read along see it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::fairness::ClientId;
use crate::nar_cache::disk::entry::Entry;
use crate::nar_cache::disk::file::DiskFile;
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::error::FillError;
use crate::store::ValidPath;
use crate::sync::Mutex;

/// Bytes of a NAR that have been written, and the result of its fill.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Bytes that can be read.
    pub(crate) written: u64,
    /// The file to read them from while the fill runs.
    pub(crate) file: Option<Arc<DiskFile>>,
    /// The entry that is on disk now, or the reason why there is none.
    pub(crate) end: Option<Result<Arc<Entry>, FillError>>,
}

/// Waits for the turn of a fill or fetch. Returns `None` if everyone who waits for it has left before that, and removes it then.
pub(crate) async fn while_awaited<T, F>(
    turn: impl Future<Output = T>,
    progress: &watch::Sender<Progress>,
    active: &Mutex<HashMap<EntryKey, F>>,
    key: &EntryKey,
) -> Option<T> {
    let mut turn = std::pin::pin!(turn);
    loop {
        tokio::select! {
            permit = &mut turn => return Some(permit),
            () = progress.closed() => {
                let mut active = active.lock();
                // Whoever joins holds this lock.
                if progress.is_closed() {
                    active.remove(key);
                    return None;
                }
            }
        }
    }
}

/// A fill that runs or waits for an encoder.
#[derive(Debug)]
pub(super) struct Fill {
    progress: Arc<watch::Sender<Progress>>,
    clients: mpsc::UnboundedSender<ClientId>,
    valid: Arc<ValidPath>,
    started: Instant,
}

/// The filling side of a [`Fill`].
pub(super) struct Filler {
    /// Closed when nobody waits for the fill any more.
    pub(super) progress: Arc<watch::Sender<Progress>>,
    /// Clients that join, whose turns for an encoder the fill may use.
    pub(super) clients: mpsc::UnboundedReceiver<ClientId>,
}

impl Fill {
    /// Creates a fill that nobody has joined yet.
    pub(super) fn new(valid: Arc<ValidPath>) -> (Self, Filler) {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let (sender, clients) = mpsc::unbounded_channel();
        let fill = Self { progress: Arc::clone(&progress), clients: sender, valid, started: Instant::now() };
        (fill, Filler { progress, clients })
    }

    /// Joins the fill for a client, whose turn for an encoder it may use while it waits.
    pub(super) fn join(&self, client: ClientId) -> watch::Receiver<Progress> {
        // Fails once the fill runs, which needs no turn any more.
        let _ = self.clients.send(client);
        self.progress.subscribe()
    }

    /// Returns its progress, for `harmonia status`.
    pub(super) fn active(&self) -> ActiveFill {
        let progress = self.progress.borrow();
        let (is_running, written) = (progress.file.is_some(), progress.written);
        ActiveFill { valid: Arc::clone(&self.valid), is_running, written, elapsed: self.started.elapsed() }
    }
}

/// A fill that runs or waits for an encoder, for `harmonia status`.
#[derive(Debug, Clone)]
pub struct ActiveFill {
    /// The path whose NAR it writes.
    pub valid: Arc<ValidPath>,
    /// Whether it runs; otherwise it waits for an encoder.
    pub is_running: bool,
    /// Compressed bytes written so far.
    pub written: u64,
    /// Time since the first request for it.
    pub elapsed: Duration,
}
