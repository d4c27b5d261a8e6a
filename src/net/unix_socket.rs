//! Unix sockets, and the file of each.
//!
//! The file is removed when its listener is dropped, unless another server has replaced it. A file that a killed server left
//! is removed by the next bind, if nobody is listening on it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use super::bind_error::BindError;
use crate::config::{BindAddress, SocketMode};

/// Length of the kernel's queue of connections; the kernel limits it to `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 1024;

/// File of a bound Unix socket. Dropping it removes the file, unless another server has replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // If this fails, the next bind removes the stale file.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds a Unix socket with `mode` and listens. A stale socket is replaced.
pub(crate) async fn bind_unix(path: &Path, mode: SocketMode) -> Result<(UnixListener, SocketFile), BindError> {
    remove_stale_socket(path).await?;
    bind(path, mode).map_err(|cause| BindError::Bind { address: BindAddress::Unix(path.to_owned()), cause })
}

/// Removes a socket that nobody is listening on. Anything else at `path` is an error.
async fn remove_stale_socket(path: &Path) -> Result<(), BindError> {
    let failed = |cause| BindError::Bind { address: BindAddress::Unix(path.to_owned()), cause };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // The queue is full, so somebody is listening.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn bind(path: &Path, mode: SocketMode) -> io::Result<(UnixListener, SocketFile)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}
