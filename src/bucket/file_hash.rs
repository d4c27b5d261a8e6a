//! Names of NAR files: `FILEHASH.nar.zst`, after the hash of the file as Nix has it.

use std::fmt;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::narinfo::Compression;

/// Extensions after `.nar`, as `BinaryCacheStore::addToStoreCommon` in Nix writes them. Nix has none for gzip.
const EXTENSIONS: [(Compression, &str); 6] = [
    (Compression::Zstd, ".zst"),
    (Compression::Xz, ".xz"),
    (Compression::Bzip2, ".bz2"),
    (Compression::Brotli, ".br"),
    (Compression::Lzip, ".lzip"),
    (Compression::None, ""),
];

/// SHA-256 of a file in the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileHash([u8; 32]);

impl FileHash {
    /// Creates a hash from a digest.
    pub(crate) const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the raw digest.
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes 52 nix32 characters.
impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&NarHash::from_digest(self.0).to_nix32())
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Name of the file of a NAR, below `nar/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NarFile {
    hash: FileHash,
    /// Index in [`EXTENSIONS`].
    extension: u8,
}

impl NarFile {
    /// Returns the name of a file that harmonia compressed.
    pub(crate) const fn zstd(hash: FileHash) -> Self {
        Self { hash, extension: 0 }
    }

    /// Returns the name of a file with this SHA-256 and compression; `None` if files of the compression have no names.
    pub(crate) fn of(digest: [u8; 32], compression: Compression) -> Option<Self> {
        let extension = EXTENSIONS.iter().position(|(known, _)| *known == compression)?;
        Some(Self { hash: FileHash(digest), extension: u8::try_from(extension).ok()? })
    }

    /// Parses `FILEHASH.nar` and one of the extensions.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (hash, rest) = name.split_at_checked(NarHash::NIX32_LEN)?;
        let extension = rest.strip_prefix(".nar")?;
        let extension = EXTENSIONS.iter().position(|(_, known)| *known == extension)?;
        let hash = FileHash(*NarHash::from_nix32(hash)?.as_bytes());
        Some(Self { hash, extension: u8::try_from(extension).ok()? })
    }

    /// Parses the URL in a narinfo.
    pub(crate) fn from_url(url: &str) -> Option<Self> {
        Self::parse(url.strip_prefix("nar/")?)
    }

    /// Returns the hash of the file.
    pub(crate) const fn hash(&self) -> FileHash {
        self.hash
    }

    /// Returns its compression.
    pub(crate) fn compression(&self) -> Compression {
        EXTENSIONS[usize::from(self.extension)].0
    }
}

/// Writes the name without the folder.
impl fmt::Display for NarFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.nar{}", self.hash, EXTENSIONS[usize::from(self.extension)].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    #[test]
    fn each_name_parses_to_what_it_was_written_from() {
        for (compression, extension) in EXTENSIONS {
            let name = format!("{HASH}.nar{extension}");
            let file = NarFile::parse(&name).unwrap();
            assert_eq!((file.to_string(), file.compression()), (name.clone(), compression));
            assert_eq!(NarFile::from_url(&format!("nar/{name}")), Some(file));
        }
        assert_eq!(
            NarFile::zstd(NarFile::parse(&format!("{HASH}.nar")).unwrap().hash()).to_string(),
            format!("{HASH}.nar.zst")
        );
    }

    #[test]
    fn nothing_else_is_a_name() {
        for name in ["", HASH, "x.nar", &format!("{HASH}.nar.gz"), &format!("{HASH}.nar.zst/"), &format!("{HASH}.zst")]
        {
            assert_eq!(NarFile::parse(name), None, "{name}");
        }
        assert_eq!(NarFile::from_url(&format!("/nar/{HASH}.nar")), None);
    }
}
