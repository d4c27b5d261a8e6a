//! The spool: what is in it, and access to its directory that never blocks the runtime.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::directory::{SpoolDirectory, SpoolDirectoryError};
use super::error::SpoolError;
use super::ledger::{Ledger, SpoolLimits};
use super::owner::{FileHash, Key, Owner};
use super::reservation::Reservation;
use crate::nar_cache::{DiskThreads, FreeSpace};
use crate::sync::Mutex;

/// Time after which a call to the disk fails.
pub(super) const DISK_LIMIT: Duration = Duration::from_secs(60);
/// Time between two searches for idle files.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Uploaded files.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: SpoolDirectory,
    ledger: Arc<Mutex<Ledger>>,
    threads: DiskThreads,
    /// Held while a name in the directory and its entry in the ledger change together. Only threads for the disk wait for it.
    names: Mutex<()>,
    next_temp_file: AtomicU64,
}

/// A complete file, open for reading. It can be read to its end even if it is removed meanwhile.
#[derive(Debug)]
pub(crate) struct SpooledFile {
    /// The file, at its beginning.
    pub(crate) file: File,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Spool {
    /// Opens the spool, without any files: those of an earlier process are removed.
    pub(crate) fn open(path: &Path, limits: SpoolLimits) -> Result<Arc<Self>, SpoolDirectoryError> {
        Ok(Arc::new(Self {
            directory: SpoolDirectory::open(path)?,
            ledger: Arc::new(Mutex::new(Ledger::new(limits))),
            threads: DiskThreads::new(),
            names: Mutex::default(),
            next_temp_file: AtomicU64::default(),
        }))
    }

    /// Reserves space for a file of this size, or for one that grows. Accesses no disk.
    pub(crate) fn reserve(&self, owner: Owner, size: Option<u64>) -> Result<Reservation, SpoolError> {
        Reservation::new(&self.ledger, owner, size)
    }

    /// Fails if the disk has no room for what is reserved.
    pub(super) async fn check_free_space(&self) -> Result<(), SpoolError> {
        let path = self.directory.path().to_owned();
        let space = self.threads.run(DISK_LIMIT, move || FreeSpace::read(&path)).await??;
        if self.ledger.lock().unwritten() > space.free {
            return Err(SpoolError::DiskFull);
        }
        Ok(())
    }

    /// Returns whether the owner has uploaded this file, and keeps it for a further narinfo if so.
    pub(crate) fn claim(&self, owner: Owner, hash: FileHash) -> bool {
        self.ledger.lock().claim(&Key { owner, hash }, Instant::now())
    }

    /// Opens a file of the owner, if it is there.
    pub(crate) async fn read(&self, owner: Owner, hash: FileHash) -> Result<Option<SpooledFile>, SpoolError> {
        let key = Key { owner, hash };
        if !self.ledger.lock().touch(&key, Instant::now()) {
            return Ok(None);
        }
        let path = self.directory.file(&key);
        let open = move || -> io::Result<SpooledFile> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok(SpooledFile { file, size })
        };
        match self.threads.run(DISK_LIMIT, open).await? {
            Ok(file) => Ok(Some(file)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                // Somebody removed it behind our back.
                self.ledger.lock().forget(&key);
                Ok(None)
            }
            Err(cause) => Err(cause.into()),
        }
    }

    /// Records that a narinfo of this file was accepted. Removes the file if no other narinfo is expected.
    pub(crate) async fn accepted(self: &Arc<Self>, owner: Owner, hash: FileHash) {
        self.remove_if(Key { owner, hash }, Ledger::end_claim).await;
    }

    /// Removes files that nobody has asked for in an hour. Never returns.
    pub(crate) async fn remove_idle(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(SEARCH_INTERVAL).await;
            self.remove_idle_now().await;
        }
    }

    pub(super) async fn remove_idle_now(self: &Arc<Self>) {
        let idle = self.ledger.lock().idle(Instant::now());
        if !idle.is_empty() {
            tracing::info!("removing {} uploads whose narinfo did not come within an hour", idle.len());
        }
        for key in idle {
            let is_idle = |ledger: &mut Ledger, key: &Key| {
                let is_idle = ledger.is_idle(key, Instant::now());
                if is_idle {
                    ledger.forget(key);
                }
                is_idle
            };
            self.remove_if(key, is_idle).await;
        }
    }

    async fn remove_if(self: &Arc<Self>, key: Key, is_last: impl FnOnce(&mut Ledger, &Key) -> bool + Send + 'static) {
        let spool = Arc::clone(self);
        let remove = move || {
            let _names = spool.names.lock();
            let is_last = is_last(&mut spool.ledger.lock(), &key);
            if is_last { fs::remove_file(spool.directory.file(&key)) } else { Ok(()) }
        };
        if let Err(cause) = self.threads.run(DISK_LIMIT, remove).await.and_then(|removed| removed) {
            tracing::warn!("cannot remove an uploaded file: {cause}");
        }
    }

    /// Gives a complete file its name.
    pub(super) fn publish(&self, from: &Path, key: Key, reservation: Reservation) -> io::Result<()> {
        let _names = self.names.lock();
        fs::rename(from, self.directory.file(&key))?;
        reservation.complete(key);
        Ok(())
    }

    /// Replaces the limits for later uploads.
    pub(crate) fn set_limits(&self, limits: SpoolLimits) {
        self.ledger.lock().set_limits(limits);
    }

    /// Checks that a file of this size may be here, if there are no others. Accesses no disk.
    pub(crate) fn check_size(&self, size: u64) -> Result<(), SpoolError> {
        self.ledger.lock().check_size(size)
    }

    /// Returns bytes and number of files that are here or on their way.
    pub(crate) fn usage(&self) -> (u64, usize) {
        let used = self.ledger.lock().used();
        (used.bytes, used.files)
    }

    pub(super) fn temp_file(&self) -> PathBuf {
        self.directory.temp_file(self.next_temp_file.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) const fn threads(&self) -> &DiskThreads {
        &self.threads
    }
}
