//! The primitive encodings: little-endian `u64`s, byte strings padded with zeros to eight, counted collections.
//!
//! Owns the bounds of everything that a peer claims. A reply is read in two steps, so that neither step is ever
//! surprised by where the transport cut the bytes:
//!
//! 1. a [`Scanner`] walks a [`Layout`] over the bytes as they arrive and finds the reply's end; it checks every
//!    length against its cap and every padding, allocates nothing, and never looks at a byte twice;
//! 2. a [`Reader`] then decodes the whole reply; what it finds missing is an error.
//!
//! (Nix `src/libutil/serialise.cc`.)

use bytes::{BufMut, BytesMut};

use crate::hash::HashError;
use crate::store_path::StorePathError;

/// The cap of one path, signature, hash or content address.
pub const MAX_STRING: usize = 64 * 1024;
/// The cap of one log line, error text or JSON document.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The cap of a collection's count: some of the largest stores known hold a million paths.
pub const MAX_ENTRIES: usize = 4 * 1024 * 1024;
/// How many elements are reserved at most from a count that has been claimed but not seen.
const MAX_RESERVED: usize = 64 * 1024;

/// What is wrong with bytes of a peer, and in which field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field}: {problem}")]
pub struct DecodeError {
    /// The field's name as this crate's layouts call it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
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
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// Text that is not a store path.
    #[error("{0}")]
    StorePath(#[from] StorePathError),
    /// Text that is not a hash.
    #[error("{0}")]
    Hash(#[from] HashError),
    /// Text that is not the JSON that is expected.
    #[error("not the expected JSON")]
    Json,
}

impl Problem {
    pub(crate) const fn of(self, field: &'static str) -> DecodeError {
        DecodeError { field, problem: self }
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

/// A message's fields in their order.
pub type Layout = &'static [Field];

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// What errors call it.
    pub name: &'static str,
    /// What its bytes look like.
    pub shape: Shape,
}

/// What a field's bytes look like.
#[derive(Debug)]
pub enum Shape {
    /// Eight bytes.
    U64,
    /// A padded string of at most `max` bytes.
    Bytes {
        /// The cap in bytes.
        max: usize,
    },
    /// A count of at most `max`, and that many times the fields of `item`.
    Repeat {
        /// The cap on the count.
        max: usize,
        /// The fields of one element.
        item: Layout,
    },
    /// A flag; unless it is zero, the fields follow.
    Flag(Layout),
    /// A tag, and the fields that follow that tag.
    Choice(&'static [(u64, Layout)]),
}

/// A [`Field`] in one line.
#[must_use]
pub const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape }
}

/// The shape of one path, signature, hash or content address.
pub const STRING: Shape = Shape::Bytes { max: MAX_STRING };
/// The shape of one log line, error text or JSON document.
pub const TEXT: Shape = Shape::Bytes { max: MAX_TEXT };
/// The shape of a set of strings.
pub const STRINGS: Shape = Shape::Repeat { max: MAX_ENTRIES, item: &[field("element", STRING)] };

/// A place in a layout: which field comes next, and how many more times the fields are repeated after this one.
#[derive(Debug)]
struct Level {
    fields: Layout,
    next: usize,
    repeats: u64,
}

/// Finds where a message ends, over bytes that arrive in any pieces.
#[derive(Debug)]
pub struct Scanner {
    levels: Vec<Level>,
    scanned: usize,
    limit: usize,
}

impl Scanner {
    /// A scanner for `layout` that refuses a message of more than `limit` bytes in total.
    #[must_use]
    pub fn new(layout: Layout, limit: usize) -> Self {
        Self { levels: vec![Level { fields: layout, next: 0, repeats: 0 }], scanned: 0, limit }
    }

    /// Looks at all bytes of the message so far (the same bytes as before, and perhaps more after them) and returns
    /// the message's length once it is whole.
    pub fn advance(&mut self, buffered: &[u8]) -> Result<Option<usize>, DecodeError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(field) = level.fields.get(level.next) else {
                if level.repeats == 0 {
                    self.levels.pop();
                } else {
                    level.repeats -= 1;
                    level.next = 0;
                }
                continue;
            };
            let Some((length, nested)) = measure(field, &buffered[self.scanned..])? else { return Ok(None) };
            level.next += 1;
            self.scanned += length;
            if self.scanned > self.limit {
                return Err(Problem::MessageTooLarge(self.limit).of(field.name));
            }
            self.levels.extend(nested);
        }
        Ok(Some(self.scanned))
    }
}

/// The length of what stands at the start of `bytes`, and the fields nested behind it; `None` if it is not all there.
fn measure(field: &Field, bytes: &[u8]) -> Result<Option<(usize, Option<Level>)>, DecodeError> {
    let Some(word) = bytes.first_chunk::<8>() else { return Ok(None) };
    let word = u64::from_le_bytes(*word);
    let nest = |fields, repeats| Some(Level { fields, next: 0, repeats });
    let nested = match &field.shape {
        Shape::U64 => None,
        Shape::Bytes { max } => {
            let length = capped(word, *max).ok_or(Problem::TooLong { length: word, max: *max }.of(field.name))?;
            let end = 8 + length + padding(length);
            let Some(string) = bytes.get(8..end) else { return Ok(None) };
            if string[length..].iter().any(|byte| *byte != 0) {
                return Err(Problem::Padding.of(field.name));
            }
            return Ok(Some((end, None)));
        }
        Shape::Repeat { max, item } => {
            capped(word, *max).ok_or(Problem::TooMany { count: word, max: *max }.of(field.name))?;
            word.checked_sub(1).and_then(|repeats| nest(*item, repeats))
        }
        Shape::Flag(fields) => {
            if word == 0 {
                None
            } else {
                nest(*fields, 0)
            }
        }
        Shape::Choice(choices) => {
            let (_, fields) =
                choices.iter().find(|(tag, _)| *tag == word).ok_or(Problem::UnknownTag(word).of(field.name))?;
            nest(*fields, 0)
        }
    };
    Ok(Some((8, nested)))
}

fn capped(value: u64, max: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|value| *value <= max)
}

/// Takes the fields of a whole message, one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `message`.
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Problem::Truncated.of(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (word, rest) = self.rest.split_first_chunk::<8>().ok_or(Problem::Truncated.of(field))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*word))
    }

    /// A flag: zero is false, anything else is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.u64(field)? != 0)
    }

    /// A padded string of any bytes.
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u64(field)?;
        let length = capped(length, MAX_TEXT).ok_or(Problem::TooLong { length, max: MAX_TEXT }.of(field))?;
        let bytes = self.take(length, field)?;
        if self.take(padding(length), field)?.iter().any(|byte| *byte != 0) {
            return Err(Problem::Padding.of(field));
        }
        Ok(bytes)
    }

    /// A padded string that must be UTF-8.
    pub fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| Problem::Utf8.of(field))
    }

    /// A count, and that many elements decoded by `element`.
    pub fn repeat<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u64(field)?;
        let count = capped(count, MAX_ENTRIES).ok_or(Problem::TooMany { count, max: MAX_ENTRIES }.of(field))?;
        let mut elements = Vec::with_capacity(count.min(MAX_RESERVED).min(self.rest.len() / 8));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(Problem::Trailing(self.rest.len()).of("message")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAIRS: Layout = &[
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
        assert_eq!(with(8, 1 << 62), Err(Problem::TooLong { length: 1 << 62, max: 9 }.of("text")));
        assert_eq!(with(8, 10), Err(Problem::TooLong { length: 10, max: 9 }.of("text")));
        assert_eq!(with(32, u64::MAX), Err(Problem::TooMany { count: u64::MAX, max: 3 }.of("pairs")));
        let end = message().len();
        assert_eq!(with(end - 16, 9), Err(Problem::UnknownTag(9).of("choice")));
        let mut padded = message();
        padded[31] = 1;
        assert_eq!(scan(&padded), Err(Problem::Padding.of("text")));
        assert_eq!(Scanner::new(PAIRS, 40).advance(&message()), Err(Problem::MessageTooLarge(40).of("key")));
    }

    #[test]
    fn a_reader_errs_on_what_is_missing_wrong_or_left_over() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, b"abc");
        for cut in 0..out.len() {
            assert_eq!(Reader::new(&out[..cut]).bytes("x"), Err(Problem::Truncated.of("x")), "{cut}");
        }
        assert_eq!(Reader::new(&out).str("x"), Ok("abc"));
        assert_eq!(Reader::new(&out).finish(), Err(Problem::Trailing(16).of("message")));
        out[8] = 0xff;
        assert_eq!(Reader::new(&out).str("x"), Err(Problem::Utf8.of("x")));
        out[15] = 1;
        assert_eq!(Reader::new(&out).bytes("x"), Err(Problem::Padding.of("x")));
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
