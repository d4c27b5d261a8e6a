//! Regular files in directories that others write to: opened without following symlinks, blocking on a FIFO or opening
//! a device.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::store::error::StoreError;

/// An open regular file.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    path: PathBuf,
    size: u64,
    version: String,
}

impl RegularFile {
    /// Opens a file of a directory, called `path` in messages; `None` if it does not exist or is not a regular file.
    pub(crate) fn open(directory: impl AsFd, name: &OsStr, path: &Path) -> Result<Option<Self>, StoreError> {
        Self::try_open(directory, name, path).map_err(|cause| StoreError::file(path, &cause))
    }

    fn try_open(directory: impl AsFd, name: &OsStr, path: &Path) -> io::Result<Option<Self>> {
        // Checked before opening: opening a device can have effects.
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let (inode, size, seconds) = (metadata.ino(), metadata.size(), metadata.mtime());
        let version = format!("{inode:x}-{size:x}-{seconds:x}-{:x}", metadata.mtime_nsec());
        Ok(Some(Self { file, path: path.to_owned(), size, version }))
    }

    /// Returns the path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size when it was opened, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns a version that changes with the contents: inode, size and modification time, in characters allowed in
    /// entity tags.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the file, at its start.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }
}

/// Opens a directory that is not a symlink itself; `None` if it does not exist or is not a directory.
pub(crate) fn open_directory(parent: impl AsFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a configured directory, following symlinks; `None` if it does not exist.
pub(crate) fn open_configured(directory: &Path) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
