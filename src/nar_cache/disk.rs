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

use super::FillError;
use super::directory::{CacheDirectory, DirectoryError};
use super::disk_threads::{Closer, DiskFile, DiskThreads};
use super::entry::{self, Entry, FileInfo};
use super::index::{Index, Key};
use super::layout::{self, entries};
use super::open_files::OpenFiles;
use super::room::Room;
use crate::metrics::{Metrics, NarCacheEvent};
use crate::sync::LogThrottle;
use crate::sync::Mutex;

/// A directory of compressed NARs, which is this process's own.
#[derive(Debug)]
pub(super) struct Disk {
    dir: CacheDirectory,
    max_size: AtomicU64,
    index: Mutex<Index>,
    open: OpenFiles,
    threads: DiskThreads,
    closer: Closer,
    /// Tells that a reservation has ended.
    freed: Notify,
    /// Whether all files are in the index.
    is_complete: AtomicBool,
    temporary: AtomicU64,
    unreadable: LogThrottle<io::ErrorKind>,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl Disk {
    /// Takes the directory for this process alone. What is in it is entered by [`Disk::scan`].
    pub(super) fn take(dir: CacheDirectory, max_size: u64, metrics: Arc<Metrics>) -> Result<Self, DirectoryError> {
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
        let closer = Closer::start().map_err(failed)?;
        let max_size = possible(dir.path(), max_size);
        Ok(Self {
            dir,
            max_size: AtomicU64::new(max_size),
            index: Mutex::default(),
            open: OpenFiles::default(),
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
    pub(super) fn scan(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for (key, path) in entries(&self.dir)? {
            let glance = || {
                let file = File::open(&path)?;
                Ok::<_, io::Error>((file.metadata()?.modified()?, entry::glance(&file, key.nar_hash)?))
            };
            match glance() {
                Ok((used, info)) => found.push((used, key, info)),
                Err(cause) => self.distrust(&key, &cause),
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        {
            let mut index = self.index.lock();
            for (_, key, info) in &found {
                // What has been used or made meanwhile is there already, and newer.
                if index.info(key).is_none() {
                    index.insert(key, *info);
                }
            }
        }
        self.is_complete.store(true, Ordering::Release);
        self.make_room();
        Ok(())
    }

    /// The threads for calls to this disk.
    pub(super) const fn threads(&self) -> &DiskThreads {
        &self.threads
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) const fn directory(&self) -> &CacheDirectory {
        &self.dir
    }

    /// What is known of a NAR, without a look at the disk.
    pub(super) fn info(&self, key: &Key) -> Option<FileInfo> {
        self.index.lock().info(key)
    }

    /// What is known to be there, if its file is open; `Ok(None)` if there is surely none. Asks nothing of the disk.
    pub(super) fn find_now(&self, key: &Key) -> Result<Option<Arc<Entry>>, Unknown> {
        if let Some((entry, _)) = self.open.find(key) {
            self.index.lock().touch(key);
            return Ok(Some(entry));
        }
        let is_known = self.index.lock().info(key).is_some();
        if is_known || !self.is_complete.load(Ordering::Acquire) { Err(Unknown) } else { Ok(None) }
    }

    /// The compressed form of a NAR. One that is not what it should be is removed, and there is none then.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Entry>> {
        match self.open(key) {
            Ok((entry, _)) => Some(entry),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => {
                self.distrust(key, &cause);
                None
            }
        }
    }

    /// The file of a NAR, if it is open. Asks nothing of the disk.
    pub(super) fn file_now(&self, key: &Key) -> Option<Arc<DiskFile>> {
        self.open.find(key).map(|(_, file)| file)
    }

    /// The bytes of an entry from `at` to the end of their block, of its file, which is opened again if need be.
    pub(super) fn read(&self, key: &Key, entry: &Entry, at: u64) -> io::Result<Bytes> {
        let file = match self.file_now(key) {
            Some(file) => file,
            None => self.open(key)?.1,
        };
        entry.read(file.get()?, at)
    }

    fn open(&self, key: &Key) -> io::Result<(Arc<Entry>, Arc<DiskFile>)> {
        let file = File::open(self.path(key)).inspect_err(|cause| {
            if cause.kind() == io::ErrorKind::NotFound {
                self.forget(key);
            }
        })?;
        // Outlives a restart, where the index does not. That it fails does no harm.
        let _ = file.set_modified(SystemTime::now());
        let opened = self.enter_open(key, file)?;
        let mut index = self.index.lock();
        if index.info(key).is_none() {
            index.insert(key, opened.0.info());
        }
        index.touch(key);
        Ok(opened)
    }

    fn enter_open(&self, key: &Key, file: File) -> io::Result<(Arc<Entry>, Arc<DiskFile>)> {
        let entry = Arc::new(Entry::of(&file, key.nar_hash)?);
        let file = Arc::new(DiskFile::new(file, self.closer.clone()));
        self.open.insert(key, &entry, &file);
        Ok((entry, file))
    }

    fn forget(&self, key: &Key) {
        self.index.lock().remove(key);
        self.open.remove(key);
    }

    /// Removes a file whose bytes are not those that were written. One that only cannot be read now, be it for want of
    /// descriptors, stays.
    pub(super) fn distrust(&self, key: &Key, cause: &io::Error) {
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
    pub(super) fn remove(&self, key: &Key) {
        self.forget(key);
        let _ = fs::remove_file(self.path(key));
    }

    /// Whether the compressed form of a NAR of `size` bytes may be kept, whatever it comes to. Asks nothing of the disk.
    pub(super) fn takes(&self, size: u64) -> bool {
        bound(size) <= self.max_size.load(Ordering::Relaxed)
    }

    /// Bytes that all files may take.
    pub(super) fn max_size(&self) -> u64 {
        self.max_size.load(Ordering::Relaxed)
    }

    /// Waits until the compressed form of a NAR of `size` bytes has room beside what other fills may write. Asks nothing of
    /// the disk.
    pub(super) async fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, FillError> {
        let bytes = bound(size);
        loop {
            let freed = self.freed.notified();
            if !self.takes(size) {
                return Err(FillError::Disk("it is larger than nar_cache.max_size".to_owned()));
            }
            if self.index.lock().reserve(self.max_size.load(Ordering::Relaxed), bytes) {
                return Ok(Reservation { disk: Arc::clone(self), bytes, written: 0 });
            }
            freed.await;
        }
    }

    /// A file to write the compressed form of a NAR of `size` bytes to, if others can make way for it.
    pub(super) fn create(&self, size: u64) -> io::Result<Temporary> {
        if bound(size) > Room::of(self.dir())?.free.saturating_add(self.usage().1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = layout::temporary(&self.dir, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Temporary { file: Arc::new(DiskFile::new(file, self.closer.clone())), path: Some(path) })
    }

    /// Gives a file that is wholly there and proven its name, and enters it, as one that was fetched or not.
    pub(super) fn publish(
        &self,
        mut file: Temporary,
        key: &Key,
        info: FileInfo,
        is_fetched: bool,
        reservation: Reservation,
    ) -> io::Result<Arc<Entry>> {
        let entry = Arc::new(Entry::of(file.file.get()?, key.nar_hash)?);
        if let Some(path) = file.path.take() {
            if let Err(cause) = layout::rename(&path, &self.path(key)) {
                file.path = Some(path);
                return Err(cause);
            }
        }
        if is_fetched {
            self.index.lock().insert(key, info);
        } else {
            self.index.lock().insert_unfetched(key, info);
        }
        self.open.insert(key, &entry, &file.file);
        drop(reservation);
        self.make_room();
        Ok(entry)
    }

    /// Takes so much at the most from now on, or as much as the file system has.
    pub(super) fn resize(&self, max_size: u64) {
        let max_size = possible(self.dir(), max_size);
        if self.max_size.swap(max_size, Ordering::Relaxed) > max_size {
            self.make_room();
        }
    }

    /// Removes what was used least recently until the rest fits.
    fn make_room(&self) {
        let gone = self.index.lock().make_room(self.max_size.load(Ordering::Relaxed));
        self.evict(gone);
    }

    /// The same until the file system has room for so many bytes more, whatever else is on it.
    fn make_room_on_disk(&self, more: u64) {
        // Where it cannot be told the write will tell.
        let free = Room::of(self.dir()).map_or(u64::MAX, |room| room.free);
        if let Some(missing) = more.checked_sub(free).filter(|missing| *missing > 0) {
            let gone = self.index.lock().give_back(missing);
            self.evict(gone);
        }
    }

    fn evict(&self, gone: Vec<Key>) {
        for key in gone {
            self.open.remove(&key);
            self.metrics.nar_cache(NarCacheEvent::Evicted);
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// Files, and the room that they take.
    pub(super) fn usage(&self) -> (usize, u64) {
        let index = self.index.lock();
        (index.len(), index.bytes())
    }

    /// As after a time in which other files were asked for.
    #[cfg(test)]
    pub(super) fn forget_open(&self, key: &Key) {
        self.open.remove(key);
    }

    fn path(&self, key: &Key) -> PathBuf {
        layout::path(&self.dir, key)
    }
}

/// It takes a look at the disk.
#[derive(Debug)]
pub(super) struct Unknown;

/// Room that a fill may write to.
#[derive(Debug)]
pub(super) struct Reservation {
    disk: Arc<Disk>,
    bytes: u64,
    written: u64,
}

impl Reservation {
    /// Makes room for so many bytes more, before they are written.
    pub(super) fn grow(&mut self, more: u64) {
        self.written += more;
        self.disk.index.lock().grow(more);
        self.disk.make_room();
        self.disk.make_room_on_disk(more);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.disk.index.lock().release(self.bytes, self.written);
        self.disk.freed.notify_waiters();
    }
}

/// No more than the file system could hold.
fn possible(dir: &Path, max_size: u64) -> u64 {
    // Where it cannot be told the writes will tell.
    Room::of(dir).map_or(max_size, |room| max_size.min(room.total))
}

/// What the compressed form of a NAR of `size` bytes comes to at the most, with its trailer and its place in the index.
pub(super) const fn bound(size: u64) -> u64 {
    size.saturating_add(size / 128).saturating_add(1 << 20)
}

/// A file without its final name; removed on drop.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: Arc<DiskFile>,
    path: Option<PathBuf>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
