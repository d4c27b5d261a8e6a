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
