//! The two strings in a NAR that are not keywords: names of directory entries, and targets of
//! symlinks.
//!
//! Both are bytes: neither Nix nor Linux asks for UTF-8. Limits are Linux's.

use std::fmt;

use super::limits::{MAX_NAME, MAX_TARGET};

/// A name that an entry of a directory can have: 1 to [`MAX_NAME`] bytes, neither `.` nor `..`,
/// without `/` and zero bytes. Names sort bytewise, as entries do in a NAR.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Takes `bytes` for a name, or says why no directory can have such an entry.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The name of an event, which the parser has checked.
    pub(super) fn checked(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_name(bytes), Ok(()));
        Self(bytes.into())
    }

    /// The name as it stands in the NAR.
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

/// Where a symlink can point: 1 to [`MAX_TARGET`] bytes, none of them zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(Box<[u8]>);

impl Target {
    /// Takes `bytes` for a target, or says why no symlink can point there.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check_target(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The target of an event, which the parser has checked.
    pub(super) fn checked(bytes: &[u8]) -> Self {
        debug_assert_eq!(check_target(bytes), Ok(()));
        Self(bytes.into())
    }

    /// The target as it stands in the NAR.
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

/// Why bytes are not a [`Name`], or not a [`Target`]. The message goes on after the object: "the
/// name ...".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There are no bytes.
    #[error("is empty")]
    Empty,
    /// There are too many bytes.
    #[error("has {length} bytes, more than {max}")]
    TooLong {
        /// Bytes that there are.
        length: usize,
        /// Bytes that there may be.
        max: usize,
    },
    /// Every directory has these two entries already.
    #[error("is \".\" or \"..\"")]
    Reserved,
    /// A byte that paths give another meaning: `/` (in names), or zero.
    #[error("has the byte {0:#04x} in it")]
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
