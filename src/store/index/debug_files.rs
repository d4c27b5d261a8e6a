//! Files with debug info in a visible store.
//!
//! Clients get the path of a file as a member of a NAR, so no symlink is followed: a NAR has the symlink itself there.
//! This also keeps every access inside its store path. All functions block on the disk.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use harmonia_protocol::StorePath;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::store::error::StoreError;
use crate::store::files::regular_file::{open_configured, open_directory};
use crate::store::index::build_id::BuildId;

/// Build IDs of each path, or an error; `None` for a path that no longer exists.
type Found = Vec<Result<Option<Vec<BuildId>>, StoreError>>;

/// Maximal number of directory entries examined per path: ten times the debug info of a kernel with all its modules.
const MAX_ENTRIES: usize = 65_536;

/// Returns the build IDs of each path.
pub(crate) fn build_ids(directory: &Path, paths: &[StorePath]) -> Result<Found, StoreError> {
    let store = open_configured(directory).map_err(|cause| StoreError::file(directory, &cause))?;
    let build_ids = |path: &StorePath| match &store {
        Some(store) => of_path(store, path, MAX_ENTRIES).map(Some).map_err(|cause| failed(directory, path, &cause)),
        None => Ok(None),
    };
    Ok(paths.iter().map(build_ids).collect())
}

/// Returns whether the path has debug info for this build ID.
pub(crate) fn has_debug_info(directory: &Path, path: &StorePath, id: &BuildId) -> Result<bool, StoreError> {
    let (byte, file) = id.names();
    let exists = || {
        let Some(store) = open_configured(directory)? else { return Ok(false) };
        let Some(ids) = directory_of_ids(&store, path)? else { return Ok(false) };
        let Some(files) = open_directory(ids, OsStr::new(&byte))? else { return Ok(false) };
        is_regular_file(&files, OsStr::new(&file))
    };
    exists().map_err(|cause| failed(directory, path, &cause))
}

fn failed(directory: &Path, path: &StorePath, cause: &io::Error) -> StoreError {
    StoreError::file(&directory.join(path.base_name()), cause)
}

/// Returns the build IDs among the first `max_entries` entries of the path.
pub(crate) fn of_path(store: &OwnedFd, path: &StorePath, max_entries: usize) -> io::Result<Vec<BuildId>> {
    let mut ids = Vec::new();
    let Some(top) = directory_of_ids(store, path)? else { return Ok(ids) };
    let mut remaining = max_entries;
    for name in names(&top, &mut remaining)? {
        let Some(files) = (if name.len() == 2 { open_directory(&top, &name)? } else { None }) else { continue };
        for file in names(&files, &mut remaining)? {
            let Some(id) = BuildId::from_names(name.as_bytes(), file.as_bytes()) else { continue };
            if is_regular_file(&files, &file)? {
                ids.push(id);
            }
        }
    }
    if remaining == 0 {
        tracing::warn!("{path} has {max_entries} or more files of debug info; ignoring the others");
    }
    Ok(ids)
}

/// Returns at most `remaining` names in a directory, and subtracts their number from it.
fn names(directory: &OwnedFd, remaining: &mut usize) -> io::Result<Vec<OsString>> {
    let entries = Dir::read_from(directory)?
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."));
    let names: Vec<_> = entries.take(*remaining).collect::<Result<_, Errno>>()?;
    *remaining -= names.len();
    Ok(names)
}

fn is_regular_file(directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn directory_of_ids(store: &OwnedFd, path: &StorePath) -> io::Result<Option<OwnedFd>> {
    let Some(mut directory) = open_directory(store, OsStr::new(path.base_name()))? else { return Ok(None) };
    for name in BuildId::DIRECTORIES {
        match open_directory(&directory, OsStr::new(name))? {
            Some(below) => directory = below,
            None => return Ok(None),
        }
    }
    Ok(Some(directory))
}
