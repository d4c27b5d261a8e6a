//! The directory of compressed NARs.
//!
//! Owns names and places: `<encoding>/<digit>/<NAR hash>` below the directory, `tmp/` for what is being written,
//! and `lock`, which one process holds. A file gets its name only when it is wholly there and proven; what a crash
//! leaves in `tmp/` is removed at the next start. A file that is in use may be unlinked: whoever has it open reads on.
//!
//! Everything here may wait for the disk, but for [`Disk::info`] and [`Disk::open_now`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use harmonia_protocol::hash::NarHash;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::encoding::EncodingTag;
use super::entry::{self, Entry, FileInfo};
use super::index::{Index, Key};
use super::locked;
use crate::metrics::{Metrics, NarCacheEvent};

/// Most files that are looked at below one directory.
const MAX_FILES: usize = 1 << 20;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system's reason.
    #[error("cannot use {} as a cache of nars: {cause}", path.display())]
    Io {
        /// The directory, or what is in it.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("cannot use {} as a cache of nars: another harmonia does", .0.display())]
    Locked(PathBuf),
}

/// A directory of compressed NARs, which is this process's own.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    max_size: AtomicU64,
    index: Mutex<Index>,
    /// Whether all files are in the index.
    is_complete: AtomicBool,
    temporary: AtomicU64,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl Disk {
    /// Takes the directory, and makes it if there is none. What is in it is entered by [`Disk::scan`].
    pub(super) fn take(dir: &Path, max_size: u64, metrics: Arc<Metrics>) -> Result<Self, DiskError> {
        let failed = |cause| DiskError::Io { path: dir.to_owned(), cause };
        let tmp = dir.join("tmp");
        make(&tmp).map_err(failed)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join("lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(DiskError::Locked(dir.to_owned())),
            Err(cause) => return Err(failed(cause.into())),
        }
        for left in files(&tmp).map_err(failed)? {
            fs::remove_file(left).map_err(failed)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            max_size: AtomicU64::new(max_size),
            index: Mutex::default(),
            is_complete: AtomicBool::new(false),
            temporary: AtomicU64::new(0),
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
            let mut index = self.locked();
            for (_, key, info) in &found {
                // What has been used or made meanwhile is there already, and newer.
                if index.info(key).is_none() {
                    index.insert(key, *info);
                }
            }
        }
        self.is_complete.store(true, Ordering::Release);
        self.make_room(0);
        Ok(())
    }

    /// What is known of a NAR, without a look at the disk.
    pub(super) fn info(&self, key: &Key) -> Option<FileInfo> {
        self.locked().info(key)
    }

    /// A file that is open already; `Ok(None)` if there is surely none.
    pub(super) fn open_now(&self, key: &Key) -> Result<Option<Arc<Entry>>, Unknown> {
        let mut index = self.locked();
        match index.use_open(key) {
            Some(entry) => Ok(Some(entry)),
            None if index.info(key).is_none() && self.is_complete.load(Ordering::Acquire) => Ok(None),
            None => Err(Unknown),
        }
    }

    /// The file of a NAR. One that is not what it should be is removed, and there is none then.
    pub(super) fn open(&self, key: &Key) -> Option<Arc<Entry>> {
        let opened = File::open(self.path(key)).and_then(|file| {
            // Outlives a restart, where the index does not. That it fails does no harm.
            let _ = file.set_modified(SystemTime::now());
            Entry::open(file, key.nar_hash)
        });
        match opened {
            Ok(entry) => {
                let entry = Arc::new(entry);
                let mut index = self.locked();
                if index.info(key).is_none() {
                    index.insert(key, entry.info());
                }
                index.keep_open(key, &entry);
                Some(entry)
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.locked().remove(key);
                None
            }
            Err(cause) => {
                self.distrust(key, &cause);
                None
            }
        }
    }

    /// Removes a file whose bytes are not those that were written. One that only cannot be read now, be it for want of
    /// descriptors, stays.
    pub(super) fn distrust(&self, key: &Key, cause: &io::Error) {
        let path = self.path(key);
        if !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
            tracing::warn!("cannot read {} of the cache of nars: {cause}", path.display());
            return;
        }
        self.metrics.nar_cache(NarCacheEvent::Corrupt);
        tracing::error!("removing {} from the cache of nars: {cause}", path.display());
        self.locked().remove(key);
        let _ = fs::remove_file(path);
    }

    /// Whether the compressed form of a NAR of `size` bytes may be kept, whatever it comes to.
    pub(super) fn has_room(&self, size: u64) -> io::Result<bool> {
        let bound = size + size / 128 + (1 << 20);
        let system = rustix::fs::statvfs(&self.dir)?;
        Ok(bound <= self.max_size.load(Ordering::Relaxed) && bound <= system.f_bavail.saturating_mul(system.f_frsize))
    }

    /// A file to write to.
    pub(super) fn create(&self) -> io::Result<Unnamed> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join("tmp").join(number.to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Unnamed { file: Arc::new(file), path: Some(path) })
    }

    /// Gives a file that is wholly there and proven its name, and enters it.
    pub(super) fn publish(&self, mut file: Unnamed, key: &Key, info: FileInfo) -> io::Result<()> {
        if let Some(path) = file.path.take() {
            if let Err(cause) = rename(&path, &self.path(key)) {
                file.path = Some(path);
                return Err(cause);
            }
        }
        self.locked().insert(key, info);
        self.make_room(0);
        Ok(())
    }

    /// Takes so much at the most from now on.
    pub(super) fn resize(&self, max_size: u64) {
        if self.max_size.swap(max_size, Ordering::Relaxed) > max_size {
            self.make_room(0);
        }
    }

    /// Removes what was used least recently until `more` bytes fit.
    pub(super) fn make_room(&self, more: u64) {
        let gone = self.locked().make_room(self.max_size.load(Ordering::Relaxed), more);
        for key in gone {
            self.metrics.nar_cache(NarCacheEvent::Evicted);
            let _ = fs::remove_file(self.path(&key));
        }
    }

    /// Files, and the room that they take.
    pub(super) fn usage(&self) -> (usize, u64) {
        let index = self.locked();
        (index.len(), index.bytes())
    }

    /// As after a time in which other files were asked for.
    #[cfg(test)]
    pub(super) fn forget_open(&self, key: &Key) {
        let mut index = self.locked();
        if let Some(info) = index.info(key) {
            index.insert(key, info);
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        path(&self.dir, key)
    }

    fn locked(&self) -> MutexGuard<'_, Index> {
        locked(&self.index)
    }
}

/// It takes a look at the disk.
#[derive(Debug)]
pub(super) struct Unknown;

/// A file without its final name; removed on drop.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub(super) file: Arc<File>,
    path: Option<PathBuf>,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// All files of a directory of NARs, by their names; files of other names are passed over.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<(Key, PathBuf)>> {
    let mut found = Vec::new();
    for encoding in files(dir)? {
        let Some(tag) = name(&encoding).and_then(|name| name.parse::<EncodingTag>().ok()) else { continue };
        let tag = Arc::new(tag);
        for shard in files(&encoding)? {
            // What is no directory is not ours.
            for file in files(&shard).unwrap_or_default() {
                let nar_hash = name(&file).and_then(NarHash::from_nix32);
                let key = nar_hash.map(|nar_hash| Key { tag: Arc::clone(&tag), nar_hash });
                if let Some(key) = key.filter(|key| path(dir, key) == file) {
                    found.push((key, file));
                }
            }
        }
    }
    Ok(found)
}

fn path(dir: &Path, key: &Key) -> PathBuf {
    let hash = key.nar_hash.to_nix32();
    // The last digit, one of 32: the first one is 0 or 1.
    let shard = &hash[hash.len() - 1..];
    [dir.as_os_str(), key.tag.as_str().as_ref(), shard.as_ref(), hash.as_ref()].iter().collect()
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    dir.read_dir()?.take(MAX_FILES).map(|entry| Ok(entry?.path())).collect()
}

/// Renames into a directory, which is made if it is not there yet.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match (fs::rename(from, to), to.parent()) {
        (Err(cause), Some(parent)) if cause.kind() == io::ErrorKind::NotFound => {
            make(parent)?;
            fs::rename(from, to)
        }
        (renamed, _) => renamed,
    }
}

fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
