//! Resolution of the roots of a view to store paths.
//!
//! A root names, by a pattern:
//!
//! - a store path, or anything below one;
//! - a symlink, which is followed a step at a time until it lies in the store directory, as a profile leads to a generation
//!   and that to a store path, or an indirect root to a symlink that its owner made;
//! - a directory, whose entries and those of directories below it are roots.
//!
//! What leads nowhere is no root, as for nix-daemon. A symlink to a directory outside of the store is none either: its
//! owner could let a scan walk through anything. Paths are walked component by component, the kernel follows no symlink:
//! so every directory on the way is known, whose stamp tells whether anything may have changed.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use harmonia_protocol::{HashPart, StoreDir, StorePath};

use crate::store::error::StoreError;
use crate::store::views::pattern::{Component, matches, of_path, of_pattern};
use crate::store::views::stamps::Stamps;

/// Upper bound of symlinks followed from one match, as in Linux.
const MAX_LINKS: usize = 40;
/// Upper bound of directories inside each other that are searched for roots.
const MAX_DEPTH: usize = 16;
/// Upper bound of directory entries read for one view, which takes about a second.
const MAX_ENTRIES: usize = 500_000;
/// Upper bound of roots of one view.
const MAX_ROOTS: usize = 100_000;

/// The roots of a view.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    /// Store paths.
    pub(crate) paths: BTreeSet<StorePath>,
    /// Hash parts of those that do not exist in the visible store, so that nix-daemon need not be asked about them.
    pub(crate) absent: HashSet<HashPart>,
    /// Stamps of everything that was read.
    pub(crate) stamps: Stamps,
    /// First place that this user may not read. Roots there are none.
    pub(crate) denied: Option<PathBuf>,
    /// Reason why roots may be missing.
    pub(crate) failure: Option<StoreError>,
}

/// Resolves the patterns of a view. Symlinks name the `logical` store directory or the `real` one. Blocks on the disk.
pub(crate) fn resolve(patterns: &[String], logical: &StoreDir, real: &Path) -> Roots {
    let is_visible = fs::metadata(real).is_ok_and(|metadata| metadata.is_dir());
    let stores = [Path::new(logical.as_str()), real];
    let mut resolution =
        Resolution { stores, real, is_visible, entries: 0, tasks: Vec::new(), roots: Roots::default() };
    for pattern in patterns {
        resolution.begin(of_pattern(pattern));
        while let Some(task) = resolution.tasks.pop() {
            if resolution.roots.failure.is_none() {
                resolution.walk(task);
            }
        }
    }
    resolution.roots
}

/// A path that is being walked.
struct Task {
    /// Directory reached, without symlinks.
    here: PathBuf,
    todo: VecDeque<Component>,
    links: usize,
    /// Whether the last component of the pattern was a symlink.
    is_link: bool,
    /// Number of directories that were searched on the way.
    depth: usize,
}

struct Resolution<'a> {
    stores: [&'a Path; 2],
    real: &'a Path,
    is_visible: bool,
    entries: usize,
    tasks: Vec<Task>,
    roots: Roots,
}

impl Resolution<'_> {
    fn begin(&mut self, todo: VecDeque<Component>) {
        let mut task = Task { here: PathBuf::from("/"), todo, links: 0, is_link: false, depth: 0 };
        self.skip_to_store(&mut task);
        self.tasks.push(task);
    }

    /// Enters a store directory that an absolute path begins with, even if it does not exist on this machine.
    fn skip_to_store(&self, task: &mut Task) {
        for store in self.stores {
            let names = of_path(store.as_os_str().as_bytes());
            if names.len() < task.todo.len() && names.iter().eq(task.todo.iter().take(names.len())) {
                task.todo.drain(..names.len());
                store.clone_into(&mut task.here);
                return;
            }
        }
    }

    fn walk(&mut self, mut task: Task) {
        while let Some(component) = task.todo.pop_front() {
            if self.is_store(&task.here) {
                match component {
                    Component::Name(name) => self.enter_root(&name),
                    Component::Pattern(pattern) => self.list_store(&pattern),
                }
                return;
            }
            match component {
                Component::Pattern(pattern) => return self.list(&task, |name| matches(&pattern, name), task.depth),
                Component::Name(name) if name == "." => {}
                Component::Name(name) if name == ".." => drop(task.here.pop()),
                Component::Name(name) => {
                    if !self.step(&mut task, &name) {
                        return;
                    }
                }
            }
        }
        if !task.is_link && !self.is_store(&task.here) && task.depth < MAX_DEPTH {
            self.list(&task, |_| true, task.depth + 1);
        }
    }

    fn is_store(&self, place: &Path) -> bool {
        self.stores.contains(&place)
    }

    /// Enters a directory, or follows a symlink. Returns whether there is one.
    fn step(&mut self, task: &mut Task, name: &OsStr) -> bool {
        let place = task.here.join(name);
        if self.is_store(&place) {
            task.here = place;
            return true;
        }
        self.roots.stamps.record(&task.here);
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            Err(cause) => return self.cannot_read(&place, &cause),
        };
        if metadata.is_dir() {
            task.here = place;
            return true;
        }
        if !metadata.is_symlink() || task.links >= MAX_LINKS {
            return false;
        }
        let target = match fs::read_link(&place) {
            Ok(target) => target,
            Err(cause) => return self.cannot_read(&place, &cause),
        };
        task.links += 1;
        task.is_link |= task.todo.is_empty();
        let rest = std::mem::replace(&mut task.todo, of_path(target.as_os_str().as_bytes()));
        task.todo.extend(rest);
        if target.is_absolute() {
            task.here = PathBuf::from("/");
            self.skip_to_store(task);
        }
        true
    }

    /// Walks on to each entry of the directory whose name is `wanted`.
    fn list(&mut self, task: &Task, wanted: impl Fn(&OsStr) -> bool, depth: usize) {
        self.roots.stamps.record(&task.here);
        for name in self.names(&task.here) {
            if wanted(&name) {
                let todo = [Component::Name(name)].into_iter().chain(task.todo.iter().cloned()).collect();
                let Task { links, is_link, .. } = *task;
                self.tasks.push(Task { here: task.here.clone(), todo, links, is_link, depth });
            }
        }
    }

    fn list_store(&mut self, pattern: &OsStr) {
        let store = self.real;
        self.roots.stamps.record(store);
        for name in self.names(store).into_iter().filter(|name| matches(pattern, name)) {
            self.enter_root(&name);
        }
    }

    /// Returns the names of the entries of a directory.
    fn names(&mut self, directory: &Path) -> Vec<OsString> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(cause) => {
                self.cannot_read(directory, &cause);
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            self.entries += 1;
            match entry {
                Ok(_) if self.entries > MAX_ENTRIES => {
                    self.fail(StoreError::IndexFull {
                        what: "directory entries for the roots of a view",
                        max: MAX_ENTRIES,
                    });
                    break;
                }
                Ok(entry) => names.push(entry.file_name()),
                Err(cause) => {
                    self.cannot_read(directory, &cause);
                    break;
                }
            }
        }
        names
    }

    fn enter_root(&mut self, name: &OsStr) {
        let Some(path) = name.to_str().and_then(|name| StorePath::from_base_name(name).ok()) else { return };
        if self.roots.paths.contains(&path) {
            return;
        }
        if self.roots.paths.len() >= MAX_ROOTS {
            return self.fail(StoreError::IndexFull { what: "roots of a view", max: MAX_ROOTS });
        }
        if self.is_missing(name) {
            self.roots.stamps.record(self.real);
            // Again, since it may have appeared before the stamp.
            if self.is_missing(name) {
                self.roots.absent.insert(path.hash_part());
            }
        }
        self.roots.paths.insert(path);
    }

    /// Returns whether a path does not exist in the visible store.
    fn is_missing(&self, name: &OsStr) -> bool {
        let is_missing = |cause: io::Error| cause.kind() == io::ErrorKind::NotFound;
        self.is_visible && fs::symlink_metadata(self.real.join(name)).is_err_and(is_missing)
    }

    /// Decides what it means that a place cannot be read. Returns false.
    fn cannot_read(&mut self, place: &Path, cause: &io::Error) -> bool {
        match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            io::ErrorKind::PermissionDenied => drop(self.roots.denied.get_or_insert_with(|| place.to_owned())),
            _ => self.fail(StoreError::file(place, cause)),
        }
        false
    }

    fn fail(&mut self, why: StoreError) {
        self.roots.failure.get_or_insert(why);
    }
}
