//! Errors of decoding bytes of a peer.

use crate::hash::HashError;
use crate::store_path::StorePathError;

/// Error of decoding a message: the field that is malformed, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field}: {kind}")]
pub struct DecodeError {
    /// Name of the field in the [`Schema`](super::Schema).
    pub field: &'static str,
    /// Kind of the error.
    pub kind: DecodeErrorKind,
}

/// Kind of a [`DecodeError`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// A string is longer than allowed.
    #[error("{length} bytes, more than {max}")]
    TooLong {
        /// Claimed length, in bytes.
        length: u64,
        /// Longest length allowed, in bytes.
        max: usize,
    },
    /// A collection has more elements than allowed.
    #[error("{count} elements, more than {max}")]
    TooMany {
        /// Claimed count.
        count: u64,
        /// Largest count allowed.
        max: usize,
    },
    /// The message is longer than allowed. Holds the upper bound in bytes.
    #[error("message exceeds {0} bytes")]
    MessageTooLarge(usize),
    /// The padding is not zero.
    #[error("padding is not zero")]
    Padding,
    /// A number is out of range.
    #[error("value {0} out of range")]
    Range(u64),
    /// A tag is unknown.
    #[error("unknown tag {0:#x}")]
    UnknownTag(u64),
    /// The message ends inside the field.
    #[error("message ends too early")]
    Truncated,
    /// Bytes follow the last field. Holds their number.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
    /// A message of this kind must not occur here.
    #[error("unexpected message")]
    Unexpected,
    /// A text is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A text is not a store path.
    #[error("{0}")]
    StorePath(#[from] StorePathError),
    /// A text is not a hash.
    #[error("{0}")]
    Hash(#[from] HashError),
    /// A text is not the name of an output.
    #[error("not an output name")]
    OutputName,
    /// A text is not JSON of the expected form.
    #[error("not the expected JSON")]
    Json,
}

impl DecodeErrorKind {
    pub(crate) const fn in_field(self, field: &'static str) -> DecodeError {
        DecodeError { field, kind: self }
    }
}
