//! Store directories, store paths and their hash parts.
//!
//! The grammar is `<store directory>/<32 nix32 characters>-<name>`. A [`StorePath`] does not include the store directory,
//! since narinfos, realisations and some operations have only the base name. A [`StoreDir`] converts to and from full paths.
//!
//! Source: Nix `src/libstore/path.cc`. Names of all releases are accepted, see [`StorePath::from_base_name`].

use std::fmt;
use std::str::FromStr;

use crate::nix32;

/// Longest name, in bytes (`StorePath::MaxPathLen` in Nix, 211 since 2.0).
const MAX_NAME: usize = 211;

/// Error of parsing a store path.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// The path does not begin with the store directory and a slash.
    #[error("not in the store directory")]
    OutsideStore,
    /// The base name does not begin with 32 nix32 characters.
    #[error("malformed hash part")]
    HashPart,
    /// The dash after the hash part is missing, or the name is empty, too long or has a character that is not allowed.
    #[error("malformed name")]
    Name,
}

/// Hash part of a store path: the first 32 characters of its base name, by which narinfos are requested.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashPart([u8; Self::LEN]);

impl HashPart {
    /// Length in characters: 160 bits in base 32.
    pub const LEN: usize = 32;
    /// A hash part that no path has, except by chance. A query for it is a cheap probe of nix-daemon: one index lookup.
    pub const ZERO: Self = Self([b'0'; Self::LEN]);

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The constructor accepts only ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for HashPart {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let characters: [u8; Self::LEN] = text.as_bytes().try_into().map_err(|_| StorePathError::HashPart)?;
        if !characters.iter().copied().all(nix32::is_digit) {
            return Err(StorePathError::HashPart);
        }
        Ok(Self(characters))
    }
}

impl fmt::Display for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Base name of a store path: `<hash part>-<name>`. Ordered bytewise, as references are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath(Box<str>);

impl StorePath {
    /// Parses a base name.
    ///
    /// Accepts names that only recent releases of Nix allow (a leading dot) and those that only old ones do (`.-x`), since
    /// a cache serves what its nix-daemon has; rejects `.` and `..`.
    pub fn from_base_name(text: &str) -> Result<Self, StorePathError> {
        let hash_part = text.get(..HashPart::LEN).ok_or(StorePathError::HashPart)?;
        HashPart::from_str(hash_part)?;
        let name = text[HashPart::LEN..].strip_prefix('-').ok_or(StorePathError::Name)?;
        let of_the_set = |c: u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c);
        if name.is_empty() || name.len() > MAX_NAME || name == "." || name == ".." || !name.bytes().all(of_the_set) {
            return Err(StorePathError::Name);
        }
        Ok(Self(text.into()))
    }

    /// Returns `<hash part>-<name>`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// Returns the hash part.
    #[must_use]
    pub fn hash_part(&self) -> HashPart {
        let mut characters = [0; HashPart::LEN];
        characters.copy_from_slice(&self.0.as_bytes()[..HashPart::LEN]);
        HashPart(characters)
    }

    /// Returns the name, after the hash part and its dash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[HashPart::LEN + 1..]
    }

    /// Returns whether the name ends in `.drv`, as that of a derivation does.
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Logical store directory, by default `/nix/store`: an absolute path without a slash at its end.
///
/// The protocol does not transmit it; client and nix-daemon must be configured alike.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(Box<str>);

/// Error of a store directory: it is not absolute, ends in a slash, or has a control character or an empty, `.` or `..`
/// segment. Holds the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a store directory: it must be an absolute path without `.`, `..` or a slash at its end")]
pub struct StoreDirError(String);

impl StoreDir {
    /// Creates a store directory from an absolute path.
    pub fn new(directory: impl Into<String>) -> Result<Self, StoreDirError> {
        let directory = directory.into();
        let segment_ok = |s: &str| !s.is_empty() && s != "." && s != ".." && !s.contains(char::is_control);
        match directory.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment_ok) => Ok(Self(directory.into())),
            _ => Err(StoreDirError(directory)),
        }
    }

    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the full path of a store path.
    #[must_use]
    pub fn full_path(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.0)
    }

    /// Parses the full path of a store path in this directory.
    pub fn parse(&self, full: &str) -> Result<StorePath, StorePathError> {
        let base = full.strip_prefix(&*self.0).and_then(|rest| rest.strip_prefix('/'));
        StorePath::from_base_name(base.ok_or(StorePathError::OutsideStore)?)
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello";

    #[test]
    fn a_full_path_splits_and_joins() {
        let store = StoreDir::default();
        let path = store.parse(&format!("/nix/store/{HELLO}")).unwrap();
        assert_eq!((path.hash_part().as_str(), path.name()), (&HELLO[..32], "hello"));
        assert_eq!(store.full_path(&path), format!("/nix/store/{HELLO}"));
    }

    #[test]
    fn what_nix_would_refuse_is_refused() {
        let store = StoreDir::default();
        let hash = &HELLO[..32];
        for (bad, error) in [
            (String::new(), StorePathError::OutsideStore),
            ("/nix/store".into(), StorePathError::OutsideStore),
            (format!("/nix/storex/{HELLO}"), StorePathError::OutsideStore),
            (format!("/nix/store//{HELLO}"), StorePathError::HashPart),
            ("/nix/store/short-name".into(), StorePathError::HashPart),
            (format!("/nix/store/{}-hello", hash.to_uppercase()), StorePathError::HashPart),
            (format!("/nix/store/{}-hello", "e".repeat(32)), StorePathError::HashPart),
            (format!("/nix/store/{hash}"), StorePathError::Name),
            (format!("/nix/store/{hash}-"), StorePathError::Name),
            (format!("/nix/store/{hash}-.."), StorePathError::Name),
            (format!("/nix/store/{hash}-a/b"), StorePathError::Name),
            (format!("/nix/store/{hash}-ä"), StorePathError::Name),
            (format!("/nix/store/{hash}-{}", "x".repeat(212)), StorePathError::Name),
        ] {
            assert_eq!(store.parse(&bad), Err(error), "{bad}");
        }
        assert!(store.parse(&format!("/nix/store/{hash}-{}", "x".repeat(211))).is_ok());
        assert!(store.parse(&format!("/nix/store/{hash}-.dot+?=_")).is_ok());
    }

    #[test]
    fn a_store_directory_has_one_spelling() {
        for bad in ["", "nix/store", "/", "/nix/store/", "/nix//store", "/nix/../store", "/nix/st\nore"] {
            assert!(StoreDir::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(StoreDir::new("/nix/store"), Ok(StoreDir::default()));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_is_unchanged(text in "\\PC{0,80}") {
            if let Ok(path) = StorePath::from_base_name(&text) {
                prop_assert_eq!(path.base_name(), text);
            }
        }

        #[test]
        fn every_legal_base_name_parses(text in "[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+_?=-][0-9a-zA-Z+._?=-]{0,210}") {
            let path = StorePath::from_base_name(&text).unwrap();
            prop_assert_eq!(path.base_name(), text);
        }
    }
}
