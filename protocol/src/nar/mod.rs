//! NAR, Nix's archive format: reading, writing and indexing it, without I/O.
//!
//! A NAR is a sequence of tokens. Each token is a length (u64, little endian), that many bytes, and
//! zero bytes up to a multiple of eight:
//!
//! ```text
//! nar       = "nix-archive-1" object
//! object    = "(" "type" ( regular | symlink | directory ) ")"
//! regular   = "regular" [ "executable" "" ] "contents" <bytes>
//! symlink   = "symlink" "target" <bytes>
//! directory = "directory" { "entry" "(" "name" <bytes> "node" object ")" }
//! ```
//!
//! * [`Parser`] finds the end of a NAR in a stream that does not say its length, and tells what it
//!   passes as [`Event`]s. All else here that reads a NAR is built on it.
//! * [`Layout`] is the index of a NAR: what is in it, and where the contents of each file are.
//! * [`Writer`] writes a NAR of its events, and [`Segments`] of its index: all but the contents of files.
//! * [`Node`] is a file tree in memory.
//!
//! Invariant: one file tree has one NAR. What the parser accepts is byte for byte what the writer
//! makes of the same tree, so a NAR cannot say anything that its [`Layout`] does not show.
//!
//! Hashing, compression and transport belong to the callers.
//!
//! Source: Nix's manual, "Nix Archive (NAR) format", and `src/libutil/archive.cc` of Nix 2.3 to
//! 2.34. Nix sets no limits on names and targets; those here are what a Linux file system can hold.

mod error;
mod grammar;
mod layout;
mod name;
mod node;
mod parser;
#[cfg(test)]
mod properties;
mod segments;
mod writer;

pub use error::NarError;
pub use layout::{Cursor, Events, Layout, LayoutBuilder, MAX_ENTRIES, MAX_TEXT};
pub use name::{MAX_NAME, MAX_TARGET, Name, NameError, Target};
pub use node::Node;
pub use parser::{Feed, Parser};
pub use segments::{Segment, Segments};
pub use writer::Writer;

/// How deep directories may nest; a NAR of one file has depth 0.
///
/// A path is at most 4095 bytes on Linux, of which the shortest store path takes 44, and each level
/// takes two or more: 2025 levels. Nix reaches files by absolute paths, so nothing deeper gets into
/// a store. Late releases (2.34.8) stop at 64 levels, which is not taken over here: what an older
/// daemon serves is valid, and its clients unpack it.
pub const MAX_DEPTH: usize = 2048;

/// What a NAR holds, in its order: the root first, each directory's entries sorted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A file, a symlink, or a directory whose entries follow.
    Object {
        /// The name in the directory around it, valid for [`Name`]; `None` at the root.
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
        /// Where it points, valid for [`Target`].
        target: &'a [u8],
    },
    /// A directory.
    Directory,
}
