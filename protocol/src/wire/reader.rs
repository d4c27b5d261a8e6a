//! Decoding a complete message.

use super::encode::padding;
use super::error::{DecodeError, DecodeErrorKind};
use super::limits::{MAX_ENTRIES, MAX_TEXT, checked};
use crate::store_path::{StoreDir, StorePath};

/// Most elements for which memory is reserved by a claimed count alone.
const MAX_RESERVED: usize = 64 * 1024;

/// Decoder of a complete message, field by field. `field` names the field in errors.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `message`.
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeErrorKind::Truncated.in_field(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a number.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (word, rest) = self.rest.split_first_chunk::<8>().ok_or(DecodeErrorKind::Truncated.in_field(field))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*word))
    }

    /// Reads a flag: zero is false, anything else is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.u64(field)? != 0)
    }

    /// Reads a string of any bytes, at most [`MAX_TEXT`].
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u64(field)?;
        let length =
            checked(length, MAX_TEXT).ok_or(DecodeErrorKind::TooLong { length, max: MAX_TEXT }.in_field(field))?;
        let bytes = self.take(length, field)?;
        if self.take(padding(length), field)?.iter().any(|byte| *byte != 0) {
            return Err(DecodeErrorKind::Padding.in_field(field));
        }
        Ok(bytes)
    }

    /// Reads a string that must be UTF-8, at most [`MAX_TEXT`] bytes.
    pub fn str(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeErrorKind::Utf8.in_field(field))
    }

    /// Reads a count, at most [`MAX_ENTRIES`], and that many elements by `element`.
    pub fn repeat<T>(
        &mut self,
        field: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u64(field)?;
        let count =
            checked(count, MAX_ENTRIES).ok_or(DecodeErrorKind::TooMany { count, max: MAX_ENTRIES }.in_field(field))?;
        let mut elements = Vec::with_capacity(count.min(MAX_RESERVED).min(self.rest.len() / 8));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Reads the full path of a store path in `store`.
    pub fn store_path(&mut self, store: &StoreDir, field: &'static str) -> Result<StorePath, DecodeError> {
        store.parse(self.str(field)?).map_err(|error| DecodeErrorKind::StorePath(error).in_field(field))
    }

    /// Reads the full path of a store path in `store`, or the empty string, which stands for none.
    pub fn optional_store_path(
        &mut self,
        store: &StoreDir,
        field: &'static str,
    ) -> Result<Option<StorePath>, DecodeError> {
        match self.str(field)? {
            "" => Ok(None),
            text => store.parse(text).map(Some).map_err(|error| DecodeErrorKind::StorePath(error).in_field(field)),
        }
    }

    /// Reads a collection of store paths in `store`, in the peer's order.
    pub fn store_paths(&mut self, store: &StoreDir, field: &'static str) -> Result<Vec<StorePath>, DecodeError> {
        self.repeat(field, |reader| reader.store_path(store, field))
    }

    /// Fails if any bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeErrorKind::Trailing(self.rest.len()).in_field("message")) }
    }
}
