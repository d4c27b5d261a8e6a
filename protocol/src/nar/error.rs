//! What can be wrong with a NAR, and where.

use super::limits::{MAX_DEPTH, MAX_ENTRIES, MAX_TEXT};
use super::name::NameError;

/// Why bytes are not a NAR, or not one that is handled here. Offsets count from the NAR's first
/// byte, and are those of the token at fault if nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarError {
    /// A keyword of the format is not where it must be.
    #[error("nar offset {offset}: expected {expected}")]
    Keyword {
        /// Of the token that is something else.
        offset: u64,
        /// The keywords that may stand there.
        expected: &'static str,
    },
    /// A token is longer than its place allows.
    #[error("nar offset {offset}: {field} of {length} bytes, more than {max}")]
    Length {
        /// Of the token.
        offset: u64,
        /// What the token should be.
        field: &'static str,
        /// Its length, in bytes.
        length: u64,
        /// The longest length allowed, in bytes.
        max: u64,
    },
    /// A token would end after the end of the NAR.
    #[error("nar offset {offset}: {field} of {length} bytes goes past the nar's size of {limit} bytes")]
    PastEnd {
        /// Of the token.
        offset: u64,
        /// What the token should be.
        field: &'static str,
        /// Its length, in bytes.
        length: u64,
        /// The size of the NAR that the parser was told, in bytes.
        limit: u64,
    },
    /// The bytes that fill a token up to a multiple of eight are not zero.
    #[error("nar offset {offset}: the padding of {field} is not zero")]
    Padding {
        /// Of the byte that is not.
        offset: u64,
        /// What is padded.
        field: &'static str,
    },
    /// No directory can have an entry of that name.
    #[error("nar offset {offset}: the name of a directory entry {reason}")]
    Name {
        /// Of the name.
        offset: u64,
        /// What is wrong with it.
        reason: NameError,
    },
    /// No symlink can point there.
    #[error("nar offset {offset}: the target of a symlink {reason}")]
    Target {
        /// Of the target.
        offset: u64,
        /// What is wrong with it.
        reason: NameError,
    },
    /// The names in a directory do not rise strictly, bytewise.
    #[error("nar offset {offset}: the name of a directory entry does not sort after the one before it")]
    Order {
        /// Of the second name.
        offset: u64,
    },
    /// Directories nest deeper than [`MAX_DEPTH`].
    #[error("nar offset {offset}: directories nest deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Of the directory that is one too deep.
        offset: u64,
    },
    /// The input ends before the NAR does.
    #[error("the nar breaks off before its end")]
    Truncated,
    /// The NAR ends before the input does.
    #[error("the nar ends at offset {offset}, and other bytes follow it")]
    Trailing {
        /// Size of the NAR.
        offset: u64,
    },
    /// An error of nix-daemon stands where the NAR should go on.
    #[error("nar offset {offset}: an error frame of nix-daemon in place of a token")]
    ErrorFrame {
        /// Of the frame.
        offset: u64,
    },
    /// An index of the NAR would take too much memory.
    #[error("the nar has more than {MAX_ENTRIES} entries, or more than {MAX_TEXT} bytes of names and symlink targets")]
    TooManyEntries,
}
