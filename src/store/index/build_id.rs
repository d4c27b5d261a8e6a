//! Build IDs, which a program and its debug info share, and the file names that debuggers derive from them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;

/// Identifier that a linker writes into an ELF file: usually 8 to 20 bytes. The first byte is the name of a directory,
/// and the others are that of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Arc<[u8]>);

/// Error for a text that is not a build ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a build id: it must be 3 to 64 bytes in lower case hexadecimal")]
pub struct InvalidBuildId;

impl BuildId {
    const LENGTHS: std::ops::RangeInclusive<usize> = 3..=64;
    /// Directories from the root of a store path to the debug info.
    pub(crate) const DIRECTORIES: [&str; 3] = ["lib", "debug", ".build-id"];
    const SUFFIX: &str = ".debug";

    /// Parses a build ID from the names of a directory and a file in it.
    pub(crate) fn from_names(directory: &[u8], file: &[u8]) -> Option<Self> {
        let (directory, file) = (std::str::from_utf8(directory).ok()?, std::str::from_utf8(file).ok()?);
        let rest = file.strip_suffix(Self::SUFFIX)?;
        if directory.len() == 2 { format!("{directory}{rest}").parse().ok() } else { None }
    }

    /// Returns the names of the directory below [`Self::DIRECTORIES`] and of the file in it.
    pub(crate) fn names(&self) -> (String, String) {
        let (first, rest) = self.0.split_at(1);
        (HEXLOWER.encode(first), HEXLOWER.encode(rest) + Self::SUFFIX)
    }

    /// Returns the path of the debug info, relative to the root of a store path.
    #[must_use]
    pub fn member(&self) -> String {
        let (directory, file) = self.names();
        [Self::DIRECTORIES.as_slice(), &[&directory, &file]].concat().join("/")
    }
}

impl FromStr for BuildId {
    type Err = InvalidBuildId;

    fn from_str(text: &str) -> Result<Self, InvalidBuildId> {
        // Limits the work of decoding.
        if !Self::LENGTHS.contains(&(text.len() / 2)) {
            return Err(InvalidBuildId);
        }
        Ok(Self(HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidBuildId)?.into()))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn build_ids_are_whole_bytes_in_lower_case() {
        for text in ["abcdef", &"0".repeat(40), &"9f".repeat(64)] {
            assert_eq!(format!("{:?}", text.parse::<BuildId>().unwrap()), text);
        }
        for text in ["", "abcd", "abcdef0", "abcdeF", "abcdeg", "abcd..", "abcd/0", &"00".repeat(65), "äääääää"]
        {
            assert_eq!(text.parse::<BuildId>(), Err(InvalidBuildId), "{text}");
        }
    }

    #[test]
    fn build_ids_are_parsed_from_directory_and_file_names() {
        let id = BuildId::from_names(b"ab", b"cdef.debug");
        assert_eq!(id.unwrap().member(), "lib/debug/.build-id/ab/cdef.debug");
        for (directory, file) in [
            (&b"abc"[..], &b"def.debug"[..]),
            (b"a", b"bcdef.debug"),
            (b"", b"abcdef.debug"),
            (b"ab", b"cdef"),
            (b"ab", b"cdef.debug.debug"),
            (b"ab", b"cdef.executable"),
            (b"AB", b"cdef.debug"),
            (b"ab", b"cd.debug"),
            (b"ab", b"cd\xff.debug"),
            (b"..", b"cdef.debug"),
        ] {
            assert_eq!(BuildId::from_names(directory, file), None, "{directory:?} {file:?}");
        }
    }

    proptest! {
        #[test]
        fn names_of_a_build_id_parse_back(text in "([0-9a-f]{2}){3,64}") {
            let id: BuildId = text.parse().unwrap();
            let (directory, file) = id.names();
            prop_assert_eq!(BuildId::from_names(directory.as_bytes(), file.as_bytes()), Some(id));
        }
    }
}
