//! The compressed NARs in one directory: which there are, how they are found and read, and which are evicted.
//!
//! Owns the directory's `lock` file, which one process holds. Leaves writing to `reservation`. A file may be unlinked while
//! it is in use: whoever has it open can still read it.
//!
//! Methods may wait for the disk, and must then run on [`DiskThreads`], unless their documentation says that they need no
//! disk access. No mutex is held during a system call.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::sync::Notify;

use super::directory::{CacheDirectory, DirectoryError};
use super::entry::{Entry, FileInfo, max_file_size, read_file_info};
use super::file::{DiskFile, FileCloser};
use super::free_space::FreeSpace;
use super::key::EntryKey;
use super::layout::{self, entries};
use super::lru::Lru;
use super::open_files::OpenFiles;
use super::threads::DiskThreads;
use crate::metrics::{Metrics, NarCacheEvent};
use crate::sync::{LogThrottle, Mutex};

/// A directory of compressed NARs that this process has locked.
#[derive(Debug)]
pub(crate) struct DiskCache {
    dir: CacheDirectory,
    max_size: AtomicU64,
    pub(super) lru: Mutex<Lru>,
    pub(super) open_files: OpenFiles,
    threads: DiskThreads,
    pub(super) closer: FileCloser,
    /// Notified when a reservation ends.
    pub(super) reservation_ended: Notify,
    /// Whether [`Self::scan`] has entered all files into `lru`.
    is_scanned: AtomicBool,
    pub(super) next_temp_file: AtomicU64,
    read_errors: LogThrottle<io::ErrorKind>,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl DiskCache {
    /// Locks the directory and removes unfinished files of earlier processes. [`Self::scan`] then finds the finished ones.
    pub(crate) fn open(dir: CacheDirectory, max_size: u64, metrics: Arc<Metrics>) -> Result<Self, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.path().to_owned(), cause };
        layout::create_temp_dir(&dir).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.path().join("lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DirectoryError::Locked(dir.path().to_owned())),
            Err(cause) => return Err(failed(cause.into())),
        }
        for left in layout::temp_files(&dir).map_err(failed)? {
            fs::remove_file(left).map_err(failed)?;
        }
        let closer = FileCloser::start().map_err(failed)?;
        let max_size = limit_to_file_system(dir.path(), max_size);
        Ok(Self {
            dir,
            max_size: AtomicU64::new(max_size),
            lru: Mutex::default(),
            open_files: OpenFiles::default(),
            threads: DiskThreads::new(),
            closer,
            reservation_ended: Notify::new(),
            is_scanned: AtomicBool::new(false),
            next_temp_file: AtomicU64::new(0),
            read_errors: LogThrottle::default(),
            metrics,
            _lock: lock,
        })
    }

    /// Finds all files, ordered by their last use as far as that is known, and removes corrupt ones.
    pub(crate) fn scan(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for (key, path) in entries(&self.dir)? {
            let read = || {
                let file = File::open(&path)?;
                Ok::<_, io::Error>((file.metadata()?.modified()?, read_file_info(&file, key.nar_hash)?))
            };
            match read() {
                Ok((used, info)) => found.push((used, key, info)),
                Err(cause) => self.evict_corrupt(&key, &cause),
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        {
            let mut lru = self.lru.lock();
            for (_, key, info) in &found {
                // Files that were used or written during the scan are in it already, with a later use.
                if lru.info(key).is_none() {
                    lru.insert(key, *info);
                }
            }
        }
        self.is_scanned.store(true, Ordering::Release);
        self.evict_to_fit();
        Ok(())
    }

    /// Returns the threads on which calls to this disk run.
    pub(crate) const fn threads(&self) -> &DiskThreads {
        &self.threads
    }

    /// Returns the directory's path.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) const fn directory(&self) -> &CacheDirectory {
        &self.dir
    }

    /// Returns hash and size of an entry if it exists. Needs no disk access.
    pub(crate) fn info(&self, key: &EntryKey) -> Option<FileInfo> {
        self.lru.lock().info(key)
    }

    /// Lets entries be found by the hash of their file. To be called before [`Self::scan`].
    pub(crate) fn index_files(&self) {
        self.lru.lock().index_files();
    }

    /// Returns the key of an entry whose file has this hash. Needs no disk access.
    pub(crate) fn find_by_file(&self, sha256: &[u8; 32]) -> Option<EntryKey> {
        self.lru.lock().find_by_file(sha256)
    }

    /// Returns an entry whose file is open, or `None` if the entry certainly does not exist. Needs no disk access.
    pub(crate) fn find_in_memory(&self, key: &EntryKey) -> Result<Option<Arc<Entry>>, NeedsDisk> {
        if let Some((entry, _)) = self.open_files.find(key) {
            self.lru.lock().touch(key);
            return Ok(Some(entry));
        }
        let is_known = self.lru.lock().info(key).is_some();
        if is_known || !self.is_scanned.load(Ordering::Acquire) { Err(NeedsDisk) } else { Ok(None) }
    }

    /// Finds an entry and opens its file. A corrupt one is removed and counts as missing.
    pub(crate) fn find(&self, key: &EntryKey) -> Option<Arc<Entry>> {
        match self.open_entry(key) {
            Ok((entry, _)) => Some(entry),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => {
                self.evict_corrupt(key, &cause);
                None
            }
        }
    }

    /// Returns the file of an entry if it is open. Needs no disk access.
    pub(crate) fn file_if_open(&self, key: &EntryKey) -> Option<Arc<DiskFile>> {
        self.open_files.find(key).map(|(_, file)| file)
    }

    /// Reads an entry from `at` to the end of that block. Opens its file again if it was closed meanwhile.
    pub(crate) fn read(&self, key: &EntryKey, entry: &Entry, at: u64) -> io::Result<Bytes> {
        let file = match self.file_if_open(key) {
            Some(file) => file,
            None => self.open_entry(key)?.1,
        };
        entry.read(file.get()?, at)
    }

    fn open_entry(&self, key: &EntryKey) -> io::Result<(Arc<Entry>, Arc<DiskFile>)> {
        let file = File::open(self.path(key)).inspect_err(|cause| {
            if cause.kind() == io::ErrorKind::NotFound {
                self.forget(key);
            }
        })?;
        // Preserves the order of uses across a restart. A failure does no harm.
        let _ = file.set_modified(SystemTime::now());
        let entry = Arc::new(Entry::read_trailer(&file, key)?);
        let file = Arc::new(DiskFile::new(file, self.closer.clone()));
        self.open_files.insert(key, &entry, &file);
        let mut lru = self.lru.lock();
        if lru.info(key).is_none() {
            lru.insert(key, entry.info());
        }
        lru.touch(key);
        Ok((entry, file))
    }

    fn forget(&self, key: &EntryKey) {
        self.lru.lock().remove(key);
        self.open_files.remove(key);
    }

    /// Removes a file if `cause` says that it is corrupt. A file that only could not be read, for lack of descriptors for example,
    /// stays.
    pub(crate) fn evict_corrupt(&self, key: &EntryKey, cause: &io::Error) {
        let path = self.path(key);
        if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
            if let Some(more) = self.read_errors.admit(cause.kind()) {
                tracing::warn!("cannot read {} of the NAR cache{more}: {cause}", path.display());
            }
            return;
        }
        self.metrics.nar_cache.record(NarCacheEvent::Corrupt);
        tracing::error!("removing {} from the NAR cache: {cause}", path.display());
        self.remove(key);
    }

    /// Removes a file. Whoever has it open can still read it.
    pub(crate) fn remove(&self, key: &EntryKey) {
        self.forget(key);
        let _ = fs::remove_file(self.path(key));
    }

    /// Returns whether a NAR of `size` bytes fits into the cache, however badly it compresses. Needs no disk access.
    pub(crate) fn fits(&self, size: u64) -> bool {
        max_file_size(size) <= self.max_size.load(Ordering::Relaxed)
    }

    /// Returns the limit on the size of all files, in bytes.
    pub(crate) fn max_size(&self) -> u64 {
        self.max_size.load(Ordering::Relaxed)
    }

    /// Changes the limit on the size of all files, in bytes. It is never more than the file system could hold.
    pub(crate) fn resize(&self, max_size: u64) {
        let max_size = limit_to_file_system(self.dir(), max_size);
        if self.max_size.swap(max_size, Ordering::Relaxed) > max_size {
            self.evict_to_fit();
        }
    }

    /// Evicts the least recently used files until the others fit.
    pub(super) fn evict_to_fit(&self) {
        let evicted = self.lru.lock().evict_to_fit(self.max_size.load(Ordering::Relaxed));
        self.remove_evicted(evicted);
    }

    /// Evicts the least recently used files until the file system has `more` bytes free, whatever else fills it.
    pub(super) fn evict_for_free_space(&self, more: u64) {
        // If free space is unknown, the write will fail where there is too little.
        let free = FreeSpace::read(self.dir()).map_or(u64::MAX, |space| space.free);
        if let Some(missing) = more.checked_sub(free).filter(|missing| *missing > 0) {
            let evicted = self.lru.lock().evict_bytes(missing);
            self.remove_evicted(evicted);
        }
    }

    fn remove_evicted(&self, evicted: Vec<EntryKey>) {
        for key in evicted {
            self.open_files.remove(&key);
            self.metrics.nar_cache.record(NarCacheEvent::Evicted);
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// Returns the number of files and the bytes that count for them.
    pub(crate) fn usage(&self) -> (usize, u64) {
        let lru = self.lru.lock();
        (lru.len(), lru.bytes())
    }

    /// Closes a file, as happens when many others are used.
    #[cfg(test)]
    pub(crate) fn close_file(&self, key: &EntryKey) {
        self.open_files.remove(key);
    }

    pub(super) fn path(&self, key: &EntryKey) -> PathBuf {
        layout::path(&self.dir, key)
    }
}

/// The answer takes disk access.
#[derive(Debug)]
pub(crate) struct NeedsDisk;

/// Lowers a limit to what the file system could hold if it held nothing else.
fn limit_to_file_system(dir: &Path, max_size: u64) -> u64 {
    // If its size is unknown, writes will fail where it is too small.
    FreeSpace::read(dir).map_or(max_size, |space| max_size.min(space.total))
}
