//! What messages look like, and where they end.

use super::encode::padding;
use super::error::{DecodeError, DecodeErrorKind};
use super::limits::{MAX_ENTRIES, MAX_STRING, MAX_TEXT, checked};

/// A message's fields in their order.
pub type Schema = &'static [Field];

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
        item: Schema,
    },
    /// A flag; unless it is zero, the fields follow.
    Flag(Schema),
    /// A tag, and the fields that follow that tag.
    Choice(&'static [(u64, Schema)]),
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
    fields: Schema,
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
    pub fn new(schema: Schema, limit: usize) -> Self {
        Self { levels: vec![Level { fields: schema, next: 0, repeats: 0 }], scanned: 0, limit }
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
                return Err(DecodeErrorKind::MessageTooLarge(self.limit).in_field(field.name));
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
