//! Writing to the directory: space is reserved, a temporary file is written, and gets its name once it is complete.
//!
//! A file has its name only if it was written to its end and verified. Temporary files that a crash leaves are removed at the
//! next start.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk_cache::DiskCache;
use super::entry::{Entry, FileInfo, max_file_size};
use super::file::DiskFile;
use super::free_space::FreeSpace;
use super::key::EntryKey;
use super::layout;
use crate::nar_cache::error::FillError;

impl DiskCache {
    /// Waits until other fills leave enough of the cache's size for a NAR of `size` bytes. Needs no disk access.
    pub(crate) async fn reserve(self: &Arc<Self>, size: u64) -> Result<Reservation, FillError> {
        let bytes = max_file_size(size);
        loop {
            let ended = self.reservation_ended.notified();
            if !self.fits(size) {
                return Err(FillError::too_large());
            }
            if self.lru.lock().reserve(self.max_size(), bytes) {
                return Ok(Reservation { disk: Arc::clone(self), bytes, written: 0 });
            }
            ended.await;
        }
    }

    /// Creates a temporary file for a NAR of `size` bytes. Fails if the file system could not hold it even without the files
    /// that can be evicted.
    pub(crate) fn create(&self, size: u64) -> io::Result<TempFile> {
        if max_file_size(size) > FreeSpace::read(self.dir())?.free.saturating_add(self.usage().1) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next_temp_file.fetch_add(1, Ordering::Relaxed);
        let path = layout::temp_file(self.directory(), number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(TempFile { file: Arc::new(DiskFile::new(file, self.closer.clone())), path: Some(path) })
    }

    /// Renames a complete, verified file to its final name and adds it to the cache. One that was precompressed and is not
    /// `fetched` is evicted before others.
    pub(crate) fn publish(
        &self,
        mut file: TempFile,
        key: &EntryKey,
        info: FileInfo,
        fetched: bool,
        reservation: Reservation,
    ) -> io::Result<Arc<Entry>> {
        let entry = Arc::new(Entry::read_trailer(file.file.get()?, key)?);
        if let Some(path) = file.path.take() {
            if let Err(cause) = layout::rename(&path, &self.path(key)) {
                file.path = Some(path);
                return Err(cause);
            }
        }
        if fetched {
            self.lru.lock().insert(key, info);
        } else {
            self.lru.lock().insert_unfetched(key, info);
        }
        self.open_files.insert(key, &entry, &file.file);
        drop(reservation);
        self.evict_to_fit();
        Ok(entry)
    }
}

/// Space that a fill may use. Dropping it returns the rest.
#[derive(Debug)]
pub(crate) struct Reservation {
    disk: Arc<DiskCache>,
    bytes: u64,
    written: u64,
}

impl Reservation {
    /// Evicts files to make space for `more` bytes that are about to be written.
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
        self.disk.reservation_ended.notify_waiters();
    }
}

/// A file without its final name. Dropping it before [`DiskCache::publish`] removes it.
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
