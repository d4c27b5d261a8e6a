//! The files with debug info in the store, where it is visible here.
//!
//! What is found is named to clients as a member of a NAR, so no link is followed on the way to it: a NAR has the link
//! itself there. That also keeps every way inside of its store path.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StorePath;
use rustix::fs::{AtFlags, Dir, FileType, StatxFlags};
use rustix::io::Errno;

use super::super::StoreError;
use super::super::regular_file::{open_configured, open_directory};
use super::BuildId;

/// Entries that are looked at of one path. The debug info of a kernel with all of its modules is a tenth of that.
const MAX_ENTRIES: usize = 65_536;
/// File systems tell times apart by some milliseconds; two changes within less may leave the same one.
const RESOLUTION: Duration = Duration::from_secs(1);

/// When a file was last changed, by the clock of its file system that nobody sets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    seconds: i64,
    nanoseconds: u32,
}

impl Changed {
    #[cfg(test)]
    pub(super) const fn at(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds }
    }

    /// Whether any change from `now` on will be told from this one.
    pub(super) fn is_past(self, now: SystemTime) -> bool {
        let since_epoch = u64::try_from(self.seconds).map(|seconds| Duration::new(seconds, self.nanoseconds));
        let then = since_epoch.ok().and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time));
        then.and_then(|then| now.duration_since(then).ok()).is_some_and(|age| age >= RESOLUTION)
    }
}

/// What there is at a store path now.
#[derive(Debug)]
pub(super) enum Look {
    /// The same as before.
    Same,
    /// Something that is new, with the build ids of its debug info.
    New(Changed, Vec<BuildId>),
    /// Nothing.
    Nothing,
}

/// The directory of the store.
#[derive(Debug)]
pub(super) struct Files(pub(super) PathBuf);

/// All of it blocks on the disk.
impl Files {
    /// When an entry of the store directory last came or went; `None` if it is not visible here.
    pub(super) fn changed(&self) -> Result<Option<Changed>, StoreError> {
        let changed = || match open_configured(&self.0)? {
            Some(store) => Ok(stat(&store, "", AtFlags::EMPTY_PATH)?.map(|(_, changed)| changed)),
            None => Ok(None),
        };
        changed().map_err(|cause: io::Error| StoreError::file(&self.0, &cause))
    }

    /// Looks at paths, each with the change that was seen when it was looked at before.
    pub(super) fn look(
        &self,
        paths: &[(StorePath, Option<Changed>)],
    ) -> Result<Vec<Result<Look, StoreError>>, StoreError> {
        let store = open_configured(&self.0).map_err(|cause| StoreError::file(&self.0, &cause))?;
        let look = |(path, before): &(StorePath, _)| match &store {
            Some(store) => look(store, path, *before).map_err(|cause| self.failed(path, &cause)),
            None => Ok(Look::Nothing),
        };
        Ok(paths.iter().map(look).collect())
    }

    /// Whether the path has the debug info of this build now.
    pub(super) fn have(&self, path: &StorePath, id: &BuildId) -> Result<bool, StoreError> {
        let (directory, file) = id.names();
        let have = || {
            let Some(store) = open_configured(&self.0)? else { return Ok(false) };
            let Some(ids) = directory_of_ids(&store, path)? else { return Ok(false) };
            let Some(directory) = open_directory(ids, OsStr::new(&directory))? else { return Ok(false) };
            is_regular_file(&directory, OsStr::new(&file))
        };
        have().map_err(|cause| self.failed(path, &cause))
    }

    fn failed(&self, path: &StorePath, cause: &io::Error) -> StoreError {
        StoreError::file(&self.0.join(path.base_name()), cause)
    }
}

fn look(store: &OwnedFd, path: &StorePath, before: Option<Changed>) -> io::Result<Look> {
    // Before what is in it: a change that comes in between is seen the next time.
    let Some((kind, changed)) = stat(store, path.base_name(), AtFlags::SYMLINK_NOFOLLOW)? else {
        return Ok(Look::Nothing);
    };
    if before == Some(changed) {
        return Ok(Look::Same);
    }
    let ids = if kind == FileType::Directory { build_ids(store, path, MAX_ENTRIES)? } else { Vec::new() };
    Ok(Look::New(changed, ids))
}

/// The builds whose debug info is among so many entries of the path.
pub(super) fn build_ids(store: &OwnedFd, path: &StorePath, max_entries: usize) -> io::Result<Vec<BuildId>> {
    let mut ids = Vec::new();
    let Some(top) = directory_of_ids(store, path)? else { return Ok(ids) };
    let mut room = max_entries;
    for name in names(&top, &mut room)? {
        let Some(files) = (if name.len() == 2 { open_directory(&top, &name)? } else { None }) else { continue };
        for file in names(&files, &mut room)? {
            let Some(id) = BuildId::from_names(name.as_bytes(), file.as_bytes()) else { continue };
            if is_regular_file(&files, &file)? {
                ids.push(id);
            }
        }
    }
    if room == 0 {
        tracing::warn!("{path} has {max_entries} files of debug info or more: no others of it are found");
    }
    Ok(ids)
}

/// The names in a directory, as many as there is room for, which they take.
fn names(directory: &OwnedFd, room: &mut usize) -> io::Result<Vec<OsString>> {
    let entries = Dir::read_from(directory)?
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."));
    let names: Vec<_> = entries.take(*room).collect::<Result<_, Errno>>()?;
    *room -= names.len();
    Ok(names)
}

fn is_regular_file(directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let found = stat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(found.is_some_and(|(kind, _)| kind == FileType::RegularFile))
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

/// What kind of file has this name, and when it was changed; `None` if there is none.
fn stat(directory: &OwnedFd, name: impl rustix::path::Arg, flags: AtFlags) -> io::Result<Option<(FileType, Changed)>> {
    match rustix::fs::statx(directory, name, flags, StatxFlags::TYPE | StatxFlags::CTIME) {
        Ok(stat) => {
            let changed = Changed { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec };
            Ok(Some((FileType::from_raw_mode(stat.stx_mode.into()), changed)))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
