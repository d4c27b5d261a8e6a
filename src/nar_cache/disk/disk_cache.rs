//! The directory of compressed NARs.
//!
//! Owns what is where, by the names of `layout`, and `lock`, which one process holds. A file gets its name only when it is wholly there and proven; what a crash
//! leaves in `tmp/` is removed at the next start. A file that is in use may be unlinked: whoever has it open reads on.
//!
//! Everything here may wait for the disk, and so belongs on [`DiskThreads`], but for what says that it does not. No lock
//! is held over a call to the system.

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
use super::entry::{self, Entry, FileInfo, max_file_size};
use super::file::{DiskFile, FileCloser};
use super::free_space::FreeSpace;
use super::key::EntryKey;
use super::layout::{self, entries};
use super::lru::Lru;
use super::open_files::OpenFiles;
use super::threads::DiskThreads;
use crate::metrics::{Metrics, NarCacheEvent};
use crate::nar_cache::error::FillError;
use crate::sync::{LogThrottle, Mutex};

/// A directory of compressed NARs, which is this process's own.
#[derive(Debug)]
pub(crate) struct DiskCache {
    dir: CacheDirectory,
    max_size: AtomicU64,
    lru: Mutex<Lru>,
    open_files: OpenFiles,
    threads: DiskThreads,
    closer: FileCloser,
    /// Tells that a reservation has ended.
    freed: Notify,
    /// Whether all files are in the lru.
    is_complete: AtomicBool,
    temporary: AtomicU64,
    unreadable: LogThrottle<io::ErrorKind>,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl DiskCache {
    /// Takes the directory for this process alone. What is in it is entered by [`DiskCache::scan`].
    pub(crate) fn open(dir: CacheDirectory, max_size: u64, metrics: Arc<Metrics>) -> Result<Self, DirectoryError> {
        let failed = |cause| DirectoryError::Io { path: dir.path().to_owned(), cause };
        layout::make(&dir).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.path().join("lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DirectoryError::Locked(dir.path().to_owned())),
            Err(cause) => return Err(failed(cause.into())),
        }
        for left in layout::temporaries(&dir).map_err(failed)? {
            fs::remove_file(left).map_err(failed)?;
        }
        let closer = FileCloser::start().map_err(failed)?;
        let max_size = capped(dir.path(), max_size);
        Ok(Self {
            dir,
            max_size: AtomicU64::new(max_size),
            lru: Mutex::default(),
            open_files: OpenFiles::default(),
            threads: DiskThreads::new(),
            closer,
            freed: Notify::new(),
            is_complete: AtomicBool::new(false),
            temporary: AtomicU64::new(0),
            unreadable: LogThrottle::default(),
            metrics,
            _lock: lock,
        })
    }

    /// Enters all files, in the order of their last use as far as it is known, and removes what is none of them.
    pub(crate) fn scan(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for (key, path) in entries(&self.dir)? {
            let glance = || {
                let file = File::open(&path)?;
                Ok::<_, io::Error>((file.metadata()?.modified()?, entry::read_file_info(&file, key.nar_hash)?))
            };
            match glance() {
                Ok((used, info)) => found.push((used, key, info)),
                Err(cause) => self.evict_corrupt(&key, &cause),
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        {
            let mut lru = self.lru.lock();
            for (_, key, info) in &found {
                // What has been used or made meanwhile is there already, and newer.
                if lru.info(key).is_none() {
                    lru.insert(key, *info);
                }
            }
        }
        self.is_complete.store(true, Ordering::Release);
        self.evict_to_fit();
        Ok(())
    }

    /// The threads for calls to this disk.
    pub(crate) const fn threads(&self) -> &DiskThreads {
        &self.threads
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) const fn directory(&self) -> &CacheDirectory {
        &self.dir
    }

    /// What is known of a NAR, without a look at the disk.
    pub(crate) fn info(&self, key: &EntryKey) -> Option<FileInfo> {
        self.lru.lock().info(key)
    }

    /// What is known to be there, if its file is open; `Ok(None)` if there is surely none. Asks nothing of the disk.
    pub(crate) fn find_in_memory(&self, key: &EntryKey) -> Result<Option<Arc<Entry>>, NeedsDisk> {
        if let Some((entry, _)) = self.open_files.find(key) {
            self.lru.lock().touch(key);
            return Ok(Some(entry));
        }
        let is_known = self.lru.lock().info(key).is_some();
        if is_known || !self.is_complete.load(Ordering::Acquire) { Err(NeedsDisk) } else { Ok(None) }
    }

    /// The compressed form of a NAR. One that is not what it should be is removed, and there is none then.
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

    /// The file of a NAR, if it is open. Asks nothing of the disk.
    pub(crate) fn open_file(&self, key: &EntryKey) -> Option<Arc<DiskFile>> {
        self.open_files.find(key).map(|(_, file)| file)
    }

    /// The bytes of an entry from `at` to the end of their block, of its file, which is opened again if need be.
    pub(crate) fn read(&self, key: &EntryKey, entry: &Entry, at: u64) -> io::Result<Bytes> {
        let file = match self.open_file(key) {
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
        // Outlives a restart, where the index does not. That it fails does no harm.
        let _ = file.set_modified(SystemTime::now());
        let opened = self.enter_open(key, file)?;
        let mut lru = self.lru.lock();
        if lru.info(key).is_none() {
            lru.insert(key, opened.0.info());
        }
        lru.touch(key);
        Ok(opened)
    }

    fn enter_open(&self, key: &EntryKey, file: File) -> io::Result<(Arc<Entry>, Arc<DiskFile>)> {
        let entry = Arc::new(Entry::read_trailer(&file, key.nar_hash)?);
        let file = Arc::new(DiskFile::new(file, self.closer.clone()));
        self.open_files.insert(key, &entry, &file);
        Ok((entry, file))
    }

    fn forget(&self, key: &EntryKey) {
        self.lru.lock().remove(key);
        self.open_files.remove(key);
    }

    /// Removes a file whose bytes are not those that were written. One that only cannot be read now, be it for want of
    /// descriptors, stays.
    pub(crate) fn evict_corrupt(&self, key: &EntryKey, cause: &io::Error) {
        let path = self.path(key);
        if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
            if let Some(more) = self.unreadable.admit(cause.kind()) {
                tracing::warn!("cannot read {} of the cache of nars{more}: {cause}", path.display());
            }
            return;
        }
        self.metrics.nar_cache(NarCacheEvent::Corrupt);
        tracing::error!("removing {} from the cache of nars: {cause}", path.display());
        self.remove(key);
    }

    /// Removes a file. Whoever has it open reads on.
    pub(crate) fn remove(&self, key: &EntryKey) {
        self.forget(key);
        let _ = fs::remove_file(self.path(key));
    }

    /// Whether the compressed form of a NAR of `size` bytes may be kept, whatever it comes to. Asks nothing of the disk.
    pub(crate) fn fits(&self, size: u64) -> bool {
        max_file_size(size) <= self.max_size.load(Ordering::Relaxed)
    }

    /// Bytes that all files may take.
    pub(crate) fn max_size(&self) -> u64 {
        self.max_size.load(Ordering::Relaxed)
    }

    /// Waits until the compressed form of a NAR of `size` bytes has room beside what other fills may write. Asks nothing of
    /// the disk.
    pub(crate) async fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, FillError> {
        let bytes = max_file_size(size);
        loop {
            let freed = self.freed.notified();
            if !self.fits(size) {
                return Err(FillError::too_large());
            }
            if self.lru.lock().reserve(self.max_size.load(Ordering::Relaxed), bytes) {
                return Ok(Reservation { disk: Arc::clone(self), bytes, written: 0 });
            }
            freed.await;
        }
    }

    /// A file to write the compressed form of a NAR of `size` bytes to, if others can make way for it.
    pub(crate) fn create(&self, size: u64) -> io::Result<TempFile> {
        if max_file_size(size) > FreeSpace::read(self.dir())?.free.saturating_add(self.usage().1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = layout::temporary(&self.dir, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(TempFile { file: Arc::new(DiskFile::new(file, self.closer.clone())), path: Some(path) })
    }

    /// Gives a file that is wholly there and proven its name, and enters it, as one that was fetched or not.
    pub(crate) fn publish(
        &self,
        mut file: TempFile,
        key: &EntryKey,
        info: FileInfo,
        is_fetched: bool,
        reservation: Reservation,
    ) -> io::Result<Arc<Entry>> {
        let entry = Arc::new(Entry::read_trailer(file.file.get()?, key.nar_hash)?);
        if let Some(path) = file.path.take() {
            if let Err(cause) = layout::rename(&path, &self.path(key)) {
                file.path = Some(path);
                return Err(cause);
            }
        }
        if is_fetched {
            self.lru.lock().insert(key, info);
        } else {
            self.lru.lock().insert_unfetched(key, info);
        }
        self.open_files.insert(key, &entry, &file.file);
        drop(reservation);
        self.evict_to_fit();
        Ok(entry)
    }

    /// Takes so much at the most from now on, or as much as the file system has.
    pub(crate) fn resize(&self, max_size: u64) {
        let max_size = capped(self.dir(), max_size);
        if self.max_size.swap(max_size, Ordering::Relaxed) > max_size {
            self.evict_to_fit();
        }
    }

    /// Removes what was used least recently until the rest fits.
    fn evict_to_fit(&self) {
        let gone = self.lru.lock().evict_to_fit(self.max_size.load(Ordering::Relaxed));
        self.remove_evicted(gone);
    }

    /// The same until the file system has room for so many bytes more, whatever else is on it.
    fn evict_for_free_space(&self, more: u64) {
        // Where it cannot be told the write will tell.
        let free = FreeSpace::read(self.dir()).map_or(u64::MAX, |space| space.free);
        if let Some(missing) = more.checked_sub(free).filter(|missing| *missing > 0) {
            let gone = self.lru.lock().evict_bytes(missing);
            self.remove_evicted(gone);
        }
    }

    fn remove_evicted(&self, gone: Vec<EntryKey>) {
        for key in gone {
            self.open_files.remove(&key);
            self.metrics.nar_cache(NarCacheEvent::Evicted);
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// Files, and the room that they take.
    pub(crate) fn usage(&self) -> (usize, u64) {
        let lru = self.lru.lock();
        (lru.len(), lru.bytes())
    }

    /// As after a time in which other files were asked for.
    #[cfg(test)]
    pub(crate) fn close_file(&self, key: &EntryKey) {
        self.open_files.remove(key);
    }

    fn path(&self, key: &EntryKey) -> PathBuf {
        layout::path(&self.dir, key)
    }
}

/// It takes a look at the disk.
#[derive(Debug)]
pub(crate) struct NeedsDisk;

/// FreeSpace that a fill may write to.
#[derive(Debug)]
pub(crate) struct Reservation {
    disk: Arc<DiskCache>,
    bytes: u64,
    written: u64,
}

impl Reservation {
    /// Makes room for so many bytes more, before they are written.
    pub(crate) fn grow(&mut self, more: u64) {
        self.written += more;
        self.disk.lru.lock().grow(more);
        self.disk.evict_to_fit();
        self.disk.evict_for_free_space(more);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.disk.lru.lock().release(self.bytes, self.written);
        self.disk.freed.notify_waiters();
    }
}

/// No more than the file system could hold.
fn capped(dir: &Path, max_size: u64) -> u64 {
    // Where it cannot be told the writes will tell.
    FreeSpace::read(dir).map_or(max_size, |space| max_size.min(space.total))
}

/// A file without its final name; removed on drop.
#[derive(Debug)]
pub(crate) struct TempFile {
    pub(crate) file: Arc<DiskFile>,
    path: Option<PathBuf>,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
