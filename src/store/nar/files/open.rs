//! Opens files and directories of a store path: below the store directory, through no symlink, not blocking on FIFOs.
//!
//! Anybody who may build controls the contents of a store, so the kernel refuses symlinks and `..` (openat2, Linux
//! 5.6). Each open starts at the store directory, so no descriptor is held for a path.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Execute bit that a NAR records: the owner's.
const EXECUTABLE: u32 = 0o100;

/// Returns whether a NAR marks a file of this mode as executable.
pub(crate) const fn is_executable(mode: u32) -> bool {
    mode & EXECUTABLE != 0
}

/// Opens a directory to list it.
pub(crate) fn directory(store: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open(store, path, OFlags::RDONLY | OFlags::DIRECTORY, true)
}

/// Modification time (mtime): seconds and nanoseconds since the Unix epoch.
///
/// Nix sets it to 1 s for every file it adds, and the hard links of `nix-store --optimise` do not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LastModified(pub(crate) i64, pub(crate) i64);

impl LastModified {
    /// Earlier than any file's.
    pub(crate) const NEVER: Self = Self(i64::MIN, 0);

    /// Creates a time from whole seconds since the Unix epoch.
    #[cfg(test)]
    pub(crate) const fn at(seconds: i64) -> Self {
        Self(seconds, 0)
    }
}

/// Attributes of a file when it was indexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) executable: bool,
    pub(crate) size: u64,
    /// Latest modification time it may have.
    pub(crate) modified: LastModified,
}

/// Opens a file; `None` if its attributes have changed since it was indexed.
///
/// Without `may_wait` it fails with an error for which [`is_wait`] is true if the disk would have to be waited for.
pub(crate) fn file(store: impl AsFd, path: &[u8], expected: &Expected, may_wait: bool) -> io::Result<Option<File>> {
    // NONBLOCK: a FIFO in its place must not block.
    let file = File::from(open(store, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, may_wait)?);
    let now = file.metadata()?;
    let is_same = now.is_file()
        && now.len() == expected.size
        && is_executable(now.mode()) == expected.executable
        && LastModified(now.mtime(), now.mtime_nsec()) <= expected.modified;
    Ok(is_same.then_some(file))
}

/// Returns whether an open or read failed because it would block on the disk, or because the kernel (before Linux 5.12)
/// or the file system cannot tell.
pub(crate) fn is_wait(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP))
}

fn open(store: impl AsFd, path: &[u8], flags: OFlags, may_wait: bool) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve.set(ResolveFlags::CACHED, !may_wait);
    Ok(rustix::fs::openat2(store, OsStr::from_bytes(path), flags, Mode::empty(), resolve)?)
}
