//! The primitive encodings: little-endian `u64`s, byte strings padded with zeros to eight, counted collections.
//!
//! Owns the bounds of everything that a peer claims. A reply is read in two steps, so that neither step is ever
//! surprised by where the transport cut the bytes:
//!
//! 1. a [`Scanner`] walks a [`Schema`] over the bytes as they arrive and finds the reply's end; it checks every
//!    length against its cap and every padding, allocates nothing, and never looks at a byte twice;
//! 2. a [`Reader`] then decodes the whole reply; what it finds missing is an error.
//!
//! (Nix `src/libutil/serialise.cc`.)

mod reader;
mod schema;

use bytes::{BufMut, BytesMut};

pub use reader::Reader;
pub use schema::{Field, STRING, STRINGS, Scanner, Schema, Shape, TEXT, field};

use crate::hash::HashError;
use crate::store_path::StorePathError;

/// The cap of one path, signature, hash or content address.
pub const MAX_STRING: usize = 64 * 1024;
/// The cap of one log line, error text or JSON document.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The cap of a collection's count: some of the largest stores known hold a million paths.
pub const MAX_ENTRIES: usize = 4 * 1024 * 1024;

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

/// Appends a number.
pub fn put_u64(out: &mut BytesMut, value: u64) {
    out.put_u64_le(value);
}

/// Appends a flag as 0 or 1.
pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u64_le(u64::from(value));
}

/// Appends a length, the bytes, and zeros up to a multiple of eight.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u64_le(bytes.len() as u64);
    out.put_slice(bytes);
    out.put_bytes(0, padding(bytes.len()));
}

/// Appends a count and then each string.
pub fn put_strings<T: AsRef<[u8]>>(out: &mut BytesMut, strings: impl ExactSizeIterator<Item = T>) {
    out.put_u64_le(strings.len() as u64);
    for string in strings {
        put_bytes(out, string.as_ref());
    }
}

/// How many zeros follow a string of `length` bytes.
#[must_use]
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}

/// A claimed length or count, if it is within its cap.
fn capped(value: u64, max: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|value| *value <= max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAIRS: Schema = &[
        field("flag", Shape::Flag(&[field("text", Shape::Bytes { max: 9 })])),
        field(
            "pairs",
            Shape::Repeat { max: 3, item: &[field("key", Shape::Bytes { max: 5 }), field("value", Shape::U64)] },
        ),
        field("choice", Shape::Choice(&[(7, &[]), (8, &[field("eight", Shape::U64)])])),
    ];

    fn message() -> BytesMut {
        let mut out = BytesMut::new();
        put_bool(&mut out, true);
        put_bytes(&mut out, b"ninebytes");
        put_u64(&mut out, 2);
        for key in [&b"k"[..], b"keyed"] {
            put_bytes(&mut out, key);
            put_u64(&mut out, 5);
        }
        put_u64(&mut out, 8);
        put_u64(&mut out, 1);
        out
    }

    fn scan(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        Scanner::new(PAIRS, 1000).advance(bytes)
    }

    #[test]
    fn the_end_is_found_at_the_last_byte_and_not_before() {
        let message = message();
        for cut in 0..message.len() {
            assert_eq!(scan(&message[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(scan(&message), Ok(Some(message.len())));
        let mut longer = message.clone();
        longer.put_slice(b"the next message");
        assert_eq!(scan(&longer), Ok(Some(message.len())));
    }

    #[test]
    fn caps_padding_and_tags_are_checked_before_the_bytes_are_there() {
        let with = |at: usize, value: u64| {
            let mut message = message();
            message[at..at + 8].copy_from_slice(&value.to_le_bytes());
            scan(&message[..at + 8])
        };
        assert_eq!(with(8, 1 << 62), Err(DecodeErrorKind::TooLong { length: 1 << 62, max: 9 }.in_field("text")));
        assert_eq!(with(8, 10), Err(DecodeErrorKind::TooLong { length: 10, max: 9 }.in_field("text")));
        assert_eq!(with(32, u64::MAX), Err(DecodeErrorKind::TooMany { count: u64::MAX, max: 3 }.in_field("pairs")));
        let end = message().len();
        assert_eq!(with(end - 16, 9), Err(DecodeErrorKind::UnknownTag(9).in_field("choice")));
        let mut padded = message();
        padded[31] = 1;
        assert_eq!(scan(&padded), Err(DecodeErrorKind::Padding.in_field("text")));
        assert_eq!(
            Scanner::new(PAIRS, 40).advance(&message()),
            Err(DecodeErrorKind::MessageTooLarge(40).in_field("key"))
        );
    }

    #[test]
    fn a_reader_errs_on_what_is_missing_wrong_or_left_over() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, b"abc");
        for cut in 0..out.len() {
            assert_eq!(Reader::new(&out[..cut]).bytes("x"), Err(DecodeErrorKind::Truncated.in_field("x")), "{cut}");
        }
        assert_eq!(Reader::new(&out).str("x"), Ok("abc"));
        assert_eq!(Reader::new(&out).finish(), Err(DecodeErrorKind::Trailing(16).in_field("message")));
        out[8] = 0xff;
        assert_eq!(Reader::new(&out).str("x"), Err(DecodeErrorKind::Utf8.in_field("x")));
        out[15] = 1;
        assert_eq!(Reader::new(&out).bytes("x"), Err(DecodeErrorKind::Padding.in_field("x")));
    }

    proptest! {
        #[test]
        fn a_message_in_any_pieces_ends_at_the_same_place(cuts in proptest::collection::vec(0usize..200, 0..20)) {
            let message = message();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.sort_unstable();
            let mut scanner = Scanner::new(PAIRS, 1000);
            for cut in cuts.into_iter().filter(|cut| *cut < message.len()) {
                prop_assert_eq!(scanner.advance(&message[..cut]), Ok(None));
            }
            prop_assert_eq!(scanner.advance(&message), Ok(Some(message.len())));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = scan(&bytes);
            let mut reader = Reader::new(&bytes);
            let _ = reader.repeat("x", |reader| reader.bytes("y"));
        }
    }
}
