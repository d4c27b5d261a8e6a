//! Appending values to a message.

use bytes::{BufMut, BytesMut};

/// Appends a number as eight bytes, little endian.
pub fn put_u64(out: &mut BytesMut, value: u64) {
    out.put_u64_le(value);
}

/// Appends a flag as the number 0 or 1.
pub fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u64_le(u64::from(value));
}

/// Appends a length, the bytes, and zeros up to a multiple of eight.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u64_le(bytes.len() as u64);
    out.put_slice(bytes);
    out.put_bytes(0, padding(bytes.len()));
}

/// Appends a count and each string after it.
pub fn put_strings<T: AsRef<[u8]>>(out: &mut BytesMut, strings: impl ExactSizeIterator<Item = T>) {
    out.put_u64_le(strings.len() as u64);
    for string in strings {
        put_bytes(out, string.as_ref());
    }
}

/// Returns the number of zeros that follow a string of `length` bytes.
pub(super) const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}
