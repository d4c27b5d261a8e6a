//! The contents of a NAR as a sequence of events.

/// An event in a walk through a NAR: the root first, the entries of each directory sorted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file, a symlink, or a directory whose entries follow.
    Object {
        /// Name in the directory around it, valid for [`Name`](super::Name); `None` at the root.
        name: Option<&'a [u8]>,
        /// The object.
        object: Object<'a>,
    },
    /// The end of the innermost open directory.
    EndDirectory,
}

/// A file system object in a NAR, without the contents of files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A file.
    Regular {
        /// Whether the execute bit of its mode is set.
        executable: bool,
        /// Size of the contents, in bytes.
        size: u64,
        /// Offset of the contents from the start of the NAR, in bytes, also of an empty file.
        offset: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Target, valid for [`Target`](super::Target).
        target: &'a [u8],
    },
    /// A directory.
    Directory,
}
