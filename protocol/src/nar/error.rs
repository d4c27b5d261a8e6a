//! Errors of a NAR, with their offsets.

use super::limits::{MAX_DEPTH, MAX_ENTRIES, MAX_TEXT};
use super::name::NameError;

/// Error of reading a NAR. Offsets are in bytes from the start of the NAR.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarError {
    /// A token is not the keyword that the format requires.
    #[error("NAR offset {offset}: expected {expected}")]
    Keyword {
        /// Offset of the token.
        offset: u64,
        /// Keywords that are allowed there.
        expected: &'static str,
    },
    /// A token is too long.
    #[error("NAR offset {offset}: {field} of {length} bytes, more than {max}")]
    Length {
        /// Offset of the token.
        offset: u64,
        /// Kind of token that is required there.
        field: &'static str,
        /// Length of the token, in bytes.
        length: u64,
        /// Longest length allowed, in bytes.
        max: u64,
    },
    /// A token would exceed the size of the NAR.
    #[error("NAR offset {offset}: {field} of {length} bytes exceeds the NAR size of {limit} bytes")]
    PastEnd {
        /// Offset of the token.
        offset: u64,
        /// Kind of token that is required there.
        field: &'static str,
        /// Length of the token, in bytes.
        length: u64,
        /// Upper bound of the NAR that the parser was given, in bytes.
        limit: u64,
    },
    /// The padding of a token is not zero.
    #[error("NAR offset {offset}: the padding of {field} is not zero")]
    Padding {
        /// Offset of the byte that is not zero.
        offset: u64,
        /// Kind of token that is padded.
        field: &'static str,
    },
    /// A name is not one that a directory entry can have.
    #[error("NAR offset {offset}: the name of a directory entry {reason}")]
    Name {
        /// Offset of the name.
        offset: u64,
        /// Error of the name.
        reason: NameError,
    },
    /// A target is not one that a symlink can have.
    #[error("NAR offset {offset}: the target of a symlink {reason}")]
    Target {
        /// Offset of the target.
        offset: u64,
        /// Error of the name.
        reason: NameError,
    },
    /// The entries of a directory are not in ascending order of their names, bytewise, or a name occurs twice.
    #[error("NAR offset {offset}: the name of a directory entry does not sort after the one before it")]
    Order {
        /// Offset of the second name.
        offset: u64,
    },
    /// Directories nest deeper than [`MAX_DEPTH`].
    #[error("NAR offset {offset}: directories nest deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Offset of the directory that is too deep.
        offset: u64,
    },
    /// The input ends before the end of the NAR.
    #[error("the NAR is truncated")]
    Truncated,
    /// Bytes follow the end of the NAR.
    #[error("bytes follow the end of the NAR at offset {offset}")]
    Trailing {
        /// Size of the NAR, in bytes.
        offset: u64,
    },
    /// An error of nix-daemon is in place of a token.
    #[error("NAR offset {offset}: error of nix-daemon in place of a token")]
    ErrorFrame {
        /// Offset of the error.
        offset: u64,
    },
    /// The NAR is too large for an index in memory.
    #[error("the NAR has more than {MAX_ENTRIES} entries, or more than {MAX_TEXT} bytes of names and symlink targets")]
    TooManyEntries,
}
