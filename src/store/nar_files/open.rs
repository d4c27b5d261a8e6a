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
pub(super) const fn is_executable(mode: u32) -> bool {
    mode & EXECUTABLE != 0
}

/// Opens a directory to list it.
pub(super) fn directory(store: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    open(store, path, OFlags::RDONLY | OFlags::DIRECTORY, true)
}

/// Opens what was a file of this kind when it was indexed; `None` if it is another one now. An error that [`is_wait`] is
/// one of not waiting for the disk where that was not allowed.
pub(super) fn file(
    store: impl AsFd,
    path: &[u8],
    executable: bool,
    size: u64,
    may_wait: bool,
) -> io::Result<Option<File>> {
    // What is no file any more does not make us wait.
    let file = File::from(open(store, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, may_wait)?);
    let now = file.metadata()?;
    let is_same = now.is_file() && now.len() == size && is_executable(now.mode()) == executable;
    Ok(is_same.then_some(file))
}

/// Whether the disk has to be waited for; or the kernel (before Linux 5.12) or the file system cannot tell.
pub(super) fn is_wait(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP))
}

fn open(store: impl AsFd, path: &[u8], flags: OFlags, may_wait: bool) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve.set(ResolveFlags::CACHED, !may_wait);
    Ok(rustix::fs::openat2(store, OsStr::from_bytes(path), flags, Mode::empty(), resolve)?)
}
