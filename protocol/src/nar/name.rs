//! The two kinds of strings in a NAR that are not keywords: names of directory entries, and targets of symlinks.
//!
//! Both are bytes, since neither Nix nor Linux requires UTF-8. Their limits are those of Linux.

use std::fmt;

use super::limits::{MAX_NAME, MAX_TARGET};

/// Name of a directory entry: 1 to [`MAX_NAME`] bytes, neither `.` nor `..`, without `/` and zero bytes. Ordered bytewise,
/// as entries are in a NAR.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Creates a name, or fails if no directory entry can have it.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Creates a name from an event, where the parser has checked it.
    pub(super) fn checked(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_name(bytes), Ok(()));
        Self(bytes.into())
    }

    /// Returns the bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Target of a symlink: 1 to [`MAX_TARGET`] bytes, none of them zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(Box<[u8]>);

impl Target {
    /// Creates a target, or fails if no symlink can have it.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check_target(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Creates a target from an event, where the parser has checked it.
    pub(super) fn checked(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_target(bytes), Ok(()));
        Self(bytes.into())
    }

    /// Returns the bytes of the target.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Error of a [`Name`] or [`Target`]. The message is a predicate, for a sentence that begins with "the name" or "the target".
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty name.
    #[error("is empty")]
    Empty,
    /// Too long a name.
    #[error("has {length} bytes, more than {max}")]
    TooLong {
        /// Length in bytes.
        length: usize,
        /// Longest length allowed, in bytes.
        max: usize,
    },
    /// `.` or `..`, which every directory has.
    #[error("is \".\" or \"..\"")]
    Reserved,
    /// Byte that has another meaning in paths: `/` (in names) or zero.
    #[error("contains the byte {0:#04x}")]
    Byte(u8),
}

pub(super) fn check_name(name: &[u8]) -> Result<(), NameError> {
    check(name, MAX_NAME, |byte| byte == b'/' || byte == 0)?;
    match name {
        b"." | b".." => Err(NameError::Reserved),
        _ => Ok(()),
    }
}

pub(super) fn check_target(target: &[u8]) -> Result<(), NameError> {
    check(target, MAX_TARGET, |byte| byte == 0)
}

fn check(text: &[u8], max: usize, forbidden: impl Fn(u8) -> bool) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { length: text.len(), max });
    }
    match text.iter().copied().find(|&byte| forbidden(byte)) {
        Some(byte) => Err(NameError::Byte(byte)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whatever_a_directory_entry_can_be_called() {
        for name in [&b"a"[..], b"...", b".a", b" ", b"\n", b"\xff\xfe", &[b'x'; MAX_NAME]] {
            assert_eq!(Name::new(name).unwrap().as_bytes(), name);
        }
        for (name, error) in [
            (&b""[..], NameError::Empty),
            (b".", NameError::Reserved),
            (b"..", NameError::Reserved),
            (b"a/b", NameError::Byte(b'/')),
            (b"a\0", NameError::Byte(0)),
            (&[b'x'; MAX_NAME + 1], NameError::TooLong { length: 256, max: 255 }),
        ] {
            assert_eq!(Name::new(name), Err(error));
        }
    }

    #[test]
    fn a_target_is_whatever_a_symlink_can_hold() {
        for target in [&b"."[..], b"/", b"../a//b", b"\xff", &[b'x'; MAX_TARGET]] {
            assert_eq!(Target::new(target).unwrap().as_bytes(), target);
        }
        for (target, error) in [
            (&b""[..], NameError::Empty),
            (b"a\0b", NameError::Byte(0)),
            (&[b'x'; MAX_TARGET + 1], NameError::TooLong { length: 4096, max: 4095 }),
        ] {
            assert_eq!(Target::new(target), Err(error));
        }
    }

    #[test]
    fn names_sort_by_their_bytes() {
        let names = [&b"B"[..], b"a", b"a-dir", b"a.b", b"\x80"].map(|name| Name::new(name).unwrap());
        assert!(names.is_sorted());
    }
}
