//! Opening what lies in a store path: below the store directory, over no symlink, waiting for no peer.
//!
//! Contents of a store are anybody's who may build. The kernel is told to refuse any way that leads over a link or upwards
//! (openat2, Linux 5.6); a path is opened from the store directory each time, so that no descriptor is held for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The execute bit that a NAR knows of: the owner's.
const EXECUTABLE: u32 = 0o100;

/// Whether a mode is that of a program.
pub(crate) const fn is_executable(mode: u32) -> bool {
    mode & EXECUTABLE != 0
}

/// Opens a directory to list it.
pub(crate) fn directory(store: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open(store, path, OFlags::RDONLY | OFlags::DIRECTORY, true)
}

/// When something was modified: seconds and nanoseconds since 1970. Nix sets it to 1 for all that it adds, and a hard link
/// to a file, which `nix-store --optimise` makes, leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LastModified(pub(crate) i64, pub(crate) i64);

impl LastModified {
    /// Before everything.
    pub(crate) const NEVER: Self = Self(i64::MIN, 0);

    /// So many seconds after the beginning of 1970.
    #[cfg(test)]
    pub(crate) const fn at(seconds: i64) -> Self {
        Self(seconds, 0)
    }
}

/// What a file was when it was indexed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) executable: bool,
    pub(crate) size: u64,
    /// It was not modified later than this.
    pub(crate) modified: LastModified,
}

/// Opens what was such a file when it was indexed; `None` if it is another one now, or one that was written to. An error
/// that [`is_wait`] is one of not waiting for the disk where that was not allowed.
pub(crate) fn file(store: impl AsFd, path: &[u8], expected: &Expected, may_wait: bool) -> io::Result<Option<File>> {
    // What is no file any more does not make us wait.
    let file = File::from(open(store, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, may_wait)?);
    let now = file.metadata()?;
    let is_same = now.is_file()
        && now.len() == expected.size
        && is_executable(now.mode()) == expected.executable
        && LastModified(now.mtime(), now.mtime_nsec()) <= expected.modified;
    Ok(is_same.then_some(file))
}

/// Whether the disk has to be waited for; or the kernel (before Linux 5.12) or the file system cannot tell.
pub(crate) fn is_wait(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP))
}

fn open(store: impl AsFd, path: &[u8], flags: OFlags, may_wait: bool) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve.set(ResolveFlags::CACHED, !may_wait);
    Ok(rustix::fs::openat2(store, OsStr::from_bytes(path), flags, Mode::empty(), resolve)?)
}
