//! Builds the index of a store path's NAR from file metadata, without reading contents.
//!
//! Memory is limited, including that of entries listed but not yet visited; depth is limited by the kernel's maximal
//! path length. One directory is open at a time.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use harmonia_protocol::StorePath;
use harmonia_protocol::nar::{Event, Layout, LayoutBuilder, Object, Writer};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::store::nar::files::open;
use crate::store::nar::files::open::LastModified;

/// Memory of an entry not yet visited, beside its name and target, in bytes.
const PENDING_ENTRY: usize = size_of::<Entry>() + 16;
/// Read bit for users who are neither the owner nor in the group.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Index of a NAR.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) layout: Layout,
    /// The size of the NAR, in bytes.
    pub(crate) nar_size: u64,
    /// Latest modification time of a file.
    pub(crate) modified: LastModified,
}

/// Reason why a path could not be indexed.
#[derive(Debug)]
pub(crate) enum NoIndex {
    /// File of a type that a NAR cannot hold.
    Special(PathBuf),
    /// The index would exceed its memory limit.
    TooLarge,
    /// File or directory that cannot be read.
    Unreadable(PathBuf, io::Error),
}

#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Regular { executable: bool, size: u64 },
    Symlink { target: Vec<u8> },
    Directory,
}

/// Indexes a path of the store directory `store`, using at most `max` bytes of memory. Blocks on the disk.
pub(crate) fn index(store: &OwnedFd, path: &StorePath, max: usize) -> Result<Index, NoIndex> {
    let mut walk = Walk {
        store,
        path: path.base_name().as_bytes().to_vec(),
        lengths: Vec::new(),
        builder: LayoutBuilder::new(),
        writer: Writer::new(),
        nar_size: 0,
        modified: LastModified::NEVER,
        scratch: Vec::new(),
        pending: 0,
        max,
    };
    let root = walk.examine(store, path.base_name().as_bytes().to_vec())?;
    let root = root.ok_or_else(|| walk.unreadable(b"", Errno::NOENT.into()))?;
    let mut levels = Vec::new();
    levels.extend(walk.enter(None, &root.kind)?);
    while let Some(entries) = levels.last_mut() {
        if let Some(Entry { name, kind }) = entries.pop() {
            walk.pending -= weight(&name, &kind);
            levels.extend(walk.enter(Some(&name), &kind)?);
        } else {
            levels.pop();
            walk.push(Event::EndDirectory)?;
            let length = walk.lengths.pop().unwrap_or_default();
            walk.path.truncate(length);
        }
    }
    let Walk { builder, nar_size, modified, .. } = walk;
    // Complete; only its size can fail it.
    let layout = builder.finish().map_err(|_| NoIndex::TooLarge)?;
    Ok(Index { layout, nar_size, modified })
}

struct Walk<'a> {
    store: &'a OwnedFd,
    /// Directory being visited, relative to the store directory.
    path: Vec<u8>,
    /// Length of `path` before each directory on it was entered.
    lengths: Vec<usize>,
    builder: LayoutBuilder,
    writer: Writer,
    nar_size: u64,
    modified: LastModified,
    /// Output of `writer`, of which only the length is used.
    scratch: Vec<u8>,
    /// Memory of the entries not yet visited, in bytes.
    pending: usize,
    max: usize,
}

impl Walk<'_> {
    /// Adds an object to the index. Returns the entries of a directory, in reverse order.
    fn enter(&mut self, name: Option<&[u8]>, kind: &Kind) -> Result<Option<Vec<Entry>>, NoIndex> {
        let object = match kind {
            Kind::Regular { executable, size } => Object::Regular { executable: *executable, size: *size, offset: 0 },
            Kind::Symlink { target } => Object::Symlink { target },
            Kind::Directory => Object::Directory,
        };
        self.push(Event::Object { name, object })?;
        let Kind::Directory = kind else { return Ok(None) };
        self.lengths.push(self.path.len());
        if let Some(name) = name {
            self.path.push(b'/');
            self.path.extend_from_slice(name);
        }
        self.list().map(Some)
    }

    fn push(&mut self, event: Event<'_>) -> Result<(), NoIndex> {
        self.scratch.clear();
        self.writer.put(event, &mut self.scratch);
        self.nar_size += self.scratch.len() as u64;
        if let Event::Object { name, object: Object::Regular { executable, size, .. } } = event {
            let object = Object::Regular { executable, size, offset: self.nar_size };
            self.builder.push(Event::Object { name, object });
            self.scratch.clear();
            self.writer.end_file(size, &mut self.scratch);
            self.nar_size = self.nar_size.saturating_add(size).saturating_add(self.scratch.len() as u64);
        } else {
            self.builder.push(event);
        }
        self.check_weight()
    }

    fn check_weight(&self) -> Result<(), NoIndex> {
        if self.builder.heap_size() + self.pending > self.max { Err(NoIndex::TooLarge) } else { Ok(()) }
    }

    /// Lists the directory at `path`, in reverse order.
    fn list(&mut self) -> Result<Vec<Entry>, NoIndex> {
        let unreadable = |cause| self.unreadable(b"", cause);
        let directory = open::directory(self.store, &self.path).map_err(unreadable)?;
        let names = Dir::read_from(&directory).map_err(|cause| unreadable(cause.into()))?;
        let mut entries = Vec::new();
        for name in names {
            let name = name.map_err(|cause| self.unreadable(b"", cause.into()))?.file_name().to_bytes().to_vec();
            if matches!(&name[..], b"." | b"..") {
                continue;
            }
            // Deleted since it was listed. If the rest is not the whole path either, size and hash tell.
            let Some(entry) = self.examine(&directory, name)? else { continue };
            self.pending += weight(&entry.name, &entry.kind);
            self.check_weight()?;
            entries.push(entry);
        }
        entries.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        Ok(entries)
    }

    /// Returns the entry of this name in an open directory; `None` if it does not exist.
    fn examine(&mut self, directory: &OwnedFd, name: Vec<u8>) -> Result<Option<Entry>, NoIndex> {
        let unreadable = |this: &Self, cause: Errno| this.unreadable(&name, cause.into());
        let stat = match rustix::fs::statat(directory, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(unreadable(self, cause)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                if stat.st_mode & READABLE_BY_OTHERS == 0 {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                    let opened = rustix::fs::openat(directory, OsStr::from_bytes(&name), flags, Mode::empty());
                    opened.map_err(|cause| unreadable(self, cause))?;
                }
                self.modified = self
                    .modified
                    .max(LastModified(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(i64::MAX)));
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                Kind::Regular { executable: open::is_executable(stat.st_mode), size }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, OsStr::from_bytes(&name), Vec::new());
                Kind::Symlink { target: target.map_err(|cause| unreadable(self, cause))?.into_bytes() }
            }
            FileType::Directory => Kind::Directory,
            _ => return Err(NoIndex::Special(self.error_path(&name))),
        };
        Ok(Some(Entry { name, kind }))
    }

    fn unreadable(&self, name: &[u8], cause: io::Error) -> NoIndex {
        NoIndex::Unreadable(self.error_path(name), cause)
    }

    /// Returns the path of a name in the directory being visited, relative to the store directory, for error messages.
    fn error_path(&self, name: &[u8]) -> PathBuf {
        let directory = PathBuf::from(OsStr::from_bytes(&self.path));
        if self.lengths.is_empty() || name.is_empty() { directory } else { directory.join(OsStr::from_bytes(name)) }
    }
}

fn weight(name: &[u8], kind: &Kind) -> usize {
    let target = if let Kind::Symlink { target } = kind { target.len() } else { 0 };
    name.len() + target + PENDING_ENTRY
}
