//! The contents of a NAR as a sequence of events.

/// What a NAR holds, in its order: the root first, each directory's entries sorted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file, a symlink, or a directory whose entries follow.
    Object {
        /// The name in the directory around it, valid for [`Name`](super::Name); `None` at the root.
        name: Option<&'a [u8]>,
        /// What has that name.
        object: Object<'a>,
    },
    /// All entries of the innermost open directory have been told.
    EndDirectory,
}

/// One file system object of a NAR, without the contents of files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A file.
    Regular {
        /// Whether its mode has the execute bit.
        executable: bool,
        /// Bytes of contents.
        size: u64,
        /// Where the first byte of the contents is, from the start of the NAR; an empty file has
        /// one too.
        offset: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, valid for [`Target`](super::Target).
        target: &'a [u8],
    },
    /// A directory.
    Directory,
}
