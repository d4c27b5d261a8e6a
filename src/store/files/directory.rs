//! Listings of store directories: sorted names, and the kind of each entry, read one by one.
//!
//! Anybody who may build decides how large a directory is, so only names are kept in memory, up to a bound.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use crate::store::error::StoreError;

/// Upper bound of entries.
const MAX_SHOWN: usize = 50_000;
/// Upper bound of the names together, in bytes: 80 each.
const MAX_TEXT: usize = 4 << 20;

/// An open directory of the store.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

/// Names in a directory, sorted by their bytes.
#[derive(Debug)]
pub struct Names {
    text: Vec<u8>,
    /// Offset and length of each in the text.
    places: Vec<(u32, u16)>,
    is_complete: bool,
}

/// Kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Directory.
    Directory,
    /// File of this size in bytes.
    File(u64),
    /// Symlink to this target.
    Symlink(OsString),
    /// Anything else, which store paths should not have.
    Other,
}

impl Names {
    /// Returns the number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns whether these are all names of the directory; at most 50,000 names of 4 MiB in total are read.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the `n`th name; `None` after the last.
    #[must_use]
    pub fn nth(&self, n: usize) -> Option<&OsStr> {
        self.places.get(n).map(|place| OsStr::from_bytes(self.at(*place)))
    }

    fn at(&self, (start, length): (u32, u16)) -> &[u8] {
        &self.text[start as usize..][..usize::from(length)]
    }

    fn add(&mut self, name: &[u8]) -> bool {
        let place = (u32::try_from(self.text.len()), u16::try_from(name.len()));
        let (Ok(start), Ok(length)) = place else { return false };
        let fits = self.places.len() < MAX_SHOWN && self.text.len() + name.len() <= MAX_TEXT;
        if fits {
            self.text.extend_from_slice(name);
            self.places.push((start, length));
        }
        fits
    }
}

impl Directory {
    /// Wraps an open directory, with its path for messages.
    pub(crate) const fn new(handle: OwnedFd, path: PathBuf) -> Self {
        Self { handle, path }
    }

    /// Returns the path, for messages.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Reads the names. Blocks on the disk.
    pub fn names(&self) -> Result<Names, StoreError> {
        self.read().map_err(|errno| StoreError::file(&self.path, &errno.into()))
    }

    fn read(&self) -> Result<Names, Errno> {
        let mut names = Names { text: Vec::new(), places: Vec::new(), is_complete: true };
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !names.add(name) {
                names.is_complete = false;
                break;
            }
        }
        let mut places = std::mem::take(&mut names.places);
        places.sort_unstable_by(|one, other| names.at(*one).cmp(names.at(*other)));
        Ok(Names { places, ..names })
    }

    /// Reads the kind of an entry; `None` if it no longer exists. Blocks on the disk.
    pub fn entry(&self, name: &OsStr) -> io::Result<Option<EntryKind>> {
        let Some(stat) = stat(&self.handle, name)? else { return Ok(None) };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File(u64::try_from(stat.st_size).unwrap_or_default()),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&self.handle, name, Vec::new())?;
                EntryKind::Symlink(OsString::from_vec(target.into_bytes()))
            }
            _ => EntryKind::Other,
        }))
    }
}

/// Reads the metadata of an entry without following symlinks; `None` if it does not exist.
pub(crate) fn stat(directory: &OwnedFd, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(None),
        Err(error) => Err(error),
    }
}
