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
//! * [`Parser`] reports the contents of a NAR as [`Event`]s while it streams, and finds its end, which a stream of
//!   nix-daemon does not announce. All other readers here use it.
//! * [`Layout`] is an index of a NAR: its objects, and the offsets of the contents of files.
//! * [`Writer`] writes a NAR from events, and [`Segments`] from an index; the caller adds the contents of files.
//! * [`Node`] is a file tree in memory.
//!
//! **A file tree has exactly one NAR.** What the parser accepts is byte for byte what the writer makes of the same tree,
//! so a NAR has no content that its [`Layout`] lacks.
//!
//! Hashing, compression and transport belong to the caller.
//!
//! Source: Nix's manual, "Nix Archive (NAR) format", and `src/libutil/archive.cc` of Nix 2.3 to 2.34. Nix does not limit
//! names and targets; the limits here are those of Linux file systems.

mod error;
mod event;
mod grammar;
mod layout;
mod limits;
mod name;
mod node;
mod parser;
mod segments;
#[cfg(test)]
mod tests;
mod writer;

pub use error::NarError;
pub use event::{Event, Object};
pub use layout::{Cursor, Events, Layout, LayoutBuilder};
pub use limits::{MAX_DEPTH, MAX_ENTRIES, MAX_NAME, MAX_TARGET, MAX_TEXT};
pub use name::{Name, NameError, Target};
pub use node::Node;
pub use parser::{Feed, Parser};
pub use segments::{Segment, Segments};
pub use writer::Writer;
