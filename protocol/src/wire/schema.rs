//! Schemas of messages, and finding the end of a message by its schema.

use super::encode::padding;
use super::error::{DecodeError, DecodeErrorKind};
use super::limits::{MAX_ENTRIES, MAX_STRING, MAX_TEXT, checked};

/// Fields of a message, in order.
pub type Schema = &'static [Field];

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Name of the field in errors.
    pub name: &'static str,
    /// Encoding of the field.
    pub shape: Shape,
}

/// Encoding of a field.
#[derive(Debug)]
pub enum Shape {
    /// A number: eight bytes, little endian.
    U64,
    /// A length, a string of that many bytes, and its padding.
    Bytes {
        /// Longest length allowed, in bytes.
        max: usize,
    },
    /// A count, and that many times the fields of `item`.
    Repeat {
        /// Largest count allowed.
        max: usize,
        /// Fields of one element.
        item: Schema,
    },
    /// A flag, and the fields that follow unless it is zero.
    Flag(Schema),
    /// A tag, and the fields that follow each tag. Other tags are an error.
    Choice(&'static [(u64, Schema)]),
}

/// Creates a [`Field`].
#[must_use]
pub const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape }
}

/// Encoding of a path, signature, hash or content address: at most [`MAX_STRING`] bytes.
pub const STRING: Shape = Shape::Bytes { max: MAX_STRING };
/// Encoding of a log line, error text or JSON document: at most [`MAX_TEXT`] bytes.
pub const TEXT: Shape = Shape::Bytes { max: MAX_TEXT };
/// Encoding of a set of strings: at most [`MAX_ENTRIES`].
pub const STRINGS: Shape = Shape::Repeat { max: MAX_ENTRIES, item: &[field("element", STRING)] };

/// Position in a schema: the next field, and how many more times the fields are repeated.
#[derive(Debug)]
struct Level {
    fields: Schema,
    next: usize,
    repeats: u64,
}

/// Finder of the end of a message whose bytes arrive in pieces.
#[derive(Debug)]
pub struct Scanner {
    levels: Vec<Level>,
    scanned: usize,
    limit: usize,
}

impl Scanner {
    /// Creates a scanner of one message, which fails if that has more than `limit` bytes.
    #[must_use]
    pub fn new(schema: Schema, limit: usize) -> Self {
        Self { levels: vec![Level { fields: schema, next: 0, repeats: 0 }], scanned: 0, limit }
    }

    /// Scans the bytes of the message that have arrived: those of the call before, and perhaps more after them. Returns
    /// the length of the message in bytes when it is complete, `None` before.
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
                return Err(DecodeErrorKind::MessageTooLarge(self.limit).in_field(field.name));
            }
            self.levels.extend(nested);
        }
        Ok(Some(self.scanned))
    }
}

/// Returns the length of the field at the start of `bytes` and the fields nested in it, or `None` if it is incomplete.
fn measure(field: &Field, bytes: &[u8]) -> Result<Option<(usize, Option<Level>)>, DecodeError> {
    let Some(word) = bytes.first_chunk::<8>() else { return Ok(None) };
    let word = u64::from_le_bytes(*word);
    let nest = |fields, repeats| Some(Level { fields, next: 0, repeats });
    let nested = match &field.shape {
        Shape::U64 => None,
        Shape::Bytes { max } => {
            let length =
                checked(word, *max).ok_or(DecodeErrorKind::TooLong { length: word, max: *max }.in_field(field.name))?;
            let end = 8 + length + padding(length);
            let Some(string) = bytes.get(8..end) else { return Ok(None) };
            if string[length..].iter().any(|byte| *byte != 0) {
                return Err(DecodeErrorKind::Padding.in_field(field.name));
            }
            return Ok(Some((end, None)));
        }
        Shape::Repeat { max, item } => {
            checked(word, *max).ok_or(DecodeErrorKind::TooMany { count: word, max: *max }.in_field(field.name))?;
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
            let (_, fields) = choices
                .iter()
                .find(|(tag, _)| *tag == word)
                .ok_or(DecodeErrorKind::UnknownTag(word).in_field(field.name))?;
            nest(*fields, 0)
        }
    };
    Ok(Some((8, nested)))
}
