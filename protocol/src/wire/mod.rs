//! Primitive encodings of the worker protocol: little-endian `u64`s, byte strings that zeros pad to a multiple of
//! eight, counted collections.
//!
//! Every length and count that a peer claims is checked against an upper bound before anything is allocated for it. A
//! reply is read in two steps, so that neither depends on where the transport cuts the bytes:
//!
//! 1. a [`Scanner`] walks a [`Schema`] over the bytes as they arrive and finds the end of the reply. It checks every
//!    length and all padding, allocates nothing for contents, and looks at each byte once;
//! 2. a [`Reader`] decodes the complete reply. A field that is missing then is an error.
//!
//! Source: Nix `src/libutil/serialise.cc`.

mod encode;
mod error;
mod limits;
mod reader;
mod schema;
#[cfg(test)]
mod tests;

pub use encode::{put_bool, put_bytes, put_strings, put_u64};
pub use error::{DecodeError, DecodeErrorKind};
pub use limits::{MAX_ENTRIES, MAX_STRING, MAX_TEXT};
pub use reader::Reader;
pub use schema::{Field, STRING, STRINGS, Scanner, Schema, Shape, TEXT, field};
