//! Path resolution below valid paths of a visible store.
//!
//! Anybody who may build decides what is in a store, so the kernel resolves no path. Each component is opened by itself
//! below the directory before it, and symlinks are resolved here, by these rules:
//!
//! - A relative target starts at the directory of its symlink; `..` goes up, but never above the store directory.
//! - An absolute target must begin with the logical store directory, and continues in the real one.
//! - Entries of the store directory must have the name of a store path. The caller checks whether the last one is
//!   valid: nothing of an invalid path may be served.
//!
//! Anything else counts as missing, as does what is neither a regular file nor a directory.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use harmonia_protocol::nar::Name;
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::store::error::StoreError;
use crate::store::files::directory::{Directory, stat};
use crate::store::files::regular_file::{RegularFile, open_configured};

/// Upper bound of symlinks followed for one request, as in Linux.
const MAX_LINKS: usize = 40;
/// Upper bound of open directories, a descriptor each: deeper than any package.
const MAX_LEVELS: usize = 128;
/// Upper bound of components, of the request and of symlinks together.
const MAX_COMPONENTS: usize = 4096;

/// Result of a resolution.
#[derive(Debug)]
pub struct Found {
    /// Store path that it is in, which may be another one than requested because of symlinks. It may be served only if
    /// it is valid.
    pub store_path: StorePath,
    /// Path in the store path, without symlinks; empty for the root.
    pub below: PathBuf,
    /// File or directory.
    pub object: FoundObject,
}

/// A file or a directory of the store.
#[derive(Debug)]
pub enum FoundObject {
    /// A file.
    File(RegularFile),
    /// A directory.
    Directory(Directory),
}

/// Resolves `names` from the store path `start`. Symlinks contain the `logical` store directory; files are in the
/// `real` one. Of other store paths only those whose hash parts are `visible` are entered. `None` if the path does not exist or leads out of the store. Blocks on the disk.
pub(crate) fn find(
    logical: &StoreDir,
    real: &Path,
    start: &StorePath,
    names: &[Name],
    visible: &dyn Fn(HashPart) -> bool,
) -> Result<Option<Found>, StoreError> {
    let place = real.join(start.base_name());
    let failed = |cause: &io::Error| StoreError::file(&place, cause);
    let Some(root) = open_configured(real).map_err(|cause| failed(&cause))? else { return Ok(None) };
    let is_allowed = |path: &StorePath| path == start || visible(path.hash_part());
    let is_allowed = &is_allowed as &dyn Fn(&StorePath) -> bool;
    let mut walk = Walk { logical, is_allowed, root, levels: Vec::new(), names: Vec::new(), links: 0, components: 0 };
    let mut todo = VecDeque::from([OsString::from(start.base_name())]);
    todo.extend(names.iter().map(|name| OsStr::from_bytes(name.as_bytes()).to_owned()));
    while let Some(component) = todo.pop_front() {
        walk.components += 1;
        if walk.components > MAX_COMPONENTS {
            return Ok(None);
        }
        match walk.step(&component, &mut todo).map_err(|errno| failed(&errno.into()))? {
            Step::On => {}
            Step::Nowhere => return Ok(None),
            Step::File => {
                // A file has no components below it.
                let found = if todo.is_empty() { walk.file(&component, real)? } else { None };
                return Ok(found);
            }
        }
    }
    walk.directory(real).map_err(|cause| failed(&cause))
}

enum Step {
    On,
    /// A regular file.
    File,
    Nowhere,
}

/// State of a resolution.
struct Walk<'a> {
    logical: &'a StoreDir,
    /// Whether a store path may be entered.
    is_allowed: &'a dyn Fn(&StorePath) -> bool,
    /// The store directory.
    root: OwnedFd,
    /// Open directories below it, each in the one before.
    levels: Vec<OwnedFd>,
    /// Their names.
    names: Vec<OsString>,
    links: usize,
    components: usize,
}

impl Walk<'_> {
    fn here(&self) -> &OwnedFd {
        self.levels.last().unwrap_or(&self.root)
    }

    /// Enters a component, or prepends the target of a symlink to the remaining ones.
    fn step(&mut self, component: &OsStr, todo: &mut VecDeque<OsString>) -> Result<Step, Errno> {
        match component.as_bytes() {
            b"" | b"." => return Ok(Step::On),
            b".." => {
                self.names.pop();
                return Ok(if self.levels.pop().is_some() { Step::On } else { Step::Nowhere });
            }
            name if self.levels.is_empty() => {
                let path = std::str::from_utf8(name).ok().and_then(|name| StorePath::from_base_name(name).ok());
                if !path.is_some_and(|path| (self.is_allowed)(&path)) {
                    return Ok(Step::Nowhere);
                }
            }
            _ => {}
        }
        let Some(stat) = stat(self.here(), component)? else { return Ok(Step::Nowhere) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.levels.len() < MAX_LEVELS => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = match rustix::fs::openat(self.here(), component, flags, Mode::empty()) {
                    Ok(directory) => directory,
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Step::Nowhere),
                    Err(error) => return Err(error),
                };
                self.levels.push(directory);
                self.names.push(component.to_owned());
                Ok(Step::On)
            }
            FileType::Symlink if self.links < MAX_LINKS => {
                self.links += 1;
                let target = rustix::fs::readlinkat(self.here(), component, Vec::new())?.into_bytes();
                Ok(if self.follow(&target, todo) { Step::On } else { Step::Nowhere })
            }
            FileType::RegularFile => Ok(Step::File),
            _ => Ok(Step::Nowhere),
        }
    }

    /// Follows a symlink. Returns whether its target is allowed.
    fn follow(&mut self, target: &[u8], todo: &mut VecDeque<OsString>) -> bool {
        let relative = if target.starts_with(b"/") {
            let inside = target.strip_prefix(self.logical.as_str().as_bytes());
            let Some(inside) = inside.and_then(|rest| rest.strip_prefix(b"/")) else { return false };
            self.levels.clear();
            self.names.clear();
            inside
        } else {
            target
        };
        for component in relative.split(|byte| *byte == b'/').rev() {
            todo.push_front(OsString::from_vec(component.to_owned()));
        }
        true
    }

    fn file(&self, name: &OsStr, real: &Path) -> Result<Option<Found>, StoreError> {
        let place: PathBuf = self.names.iter().map(OsString::as_os_str).chain([name]).collect();
        let file = RegularFile::open(self.here(), name, &real.join(&place))?;
        Ok(file.and_then(|file| found(&place, FoundObject::File(file))))
    }

    fn directory(mut self, real: &Path) -> io::Result<Option<Found>> {
        let place: PathBuf = self.names.iter().collect();
        // The store directory itself is not listed.
        let Some(here) = self.levels.pop() else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(here, ".", flags, Mode::empty())?;
        Ok(found(&place, FoundObject::Directory(Directory::new(handle, real.join(&place)))))
    }
}

fn found(place: &Path, object: FoundObject) -> Option<Found> {
    let mut components = place.components();
    let store_path = StorePath::from_base_name(components.next()?.as_os_str().to_str()?).ok()?;
    Some(Found { store_path, below: components.as_path().to_owned(), object })
}
