//! Errors of decoding bytes of a peer.

use crate::hash::HashError;
use crate::store_path::StorePathError;

/// What is wrong with bytes of a peer, and in which field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field}: {kind}")]
pub struct DecodeError {
    /// The field's name as this crate's layouts call it.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// A string longer than its cap.
    #[error("{length} bytes claimed, at most {max} accepted")]
    TooLong {
        /// The claimed length in bytes.
        length: u64,
        /// The cap in bytes.
        max: usize,
    },
    /// A collection of more elements than its cap.
    #[error("{count} elements claimed, at most {max} accepted")]
    TooMany {
        /// The claimed count.
        count: u64,
        /// The cap.
        max: usize,
    },
    /// A whole message beyond its cap in bytes.
    #[error("the message exceeds {0} bytes")]
    MessageTooLarge(usize),
    /// Padding that is not zero.
    #[error("padding that is not zero")]
    Padding,
    /// A number that the field cannot hold.
    #[error("value {0} out of range")]
    Range(u64),
    /// A tag that no version of the protocol knows here.
    #[error("unknown tag {0:#x}")]
    UnknownTag(u64),
    /// The bytes end inside the field.
    #[error("it ends too early")]
    Truncated,
    /// Bytes left over after the last field.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// Something that may not stand here.
    #[error("it is out of place")]
    OutOfPlace,
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// Text that is not a store path.
    #[error("{0}")]
    StorePath(#[from] StorePathError),
    /// Text that is not a hash.
    #[error("{0}")]
    Hash(#[from] HashError),
    /// Text that is not the name of an output.
    #[error("not an output name")]
    OutputName,
    /// Text that is not the JSON that is expected.
    #[error("not the expected JSON")]
    Json,
}

impl DecodeErrorKind {
    pub(crate) const fn in_field(self, field: &'static str) -> DecodeError {
        DecodeError { field, kind: self }
    }
}
