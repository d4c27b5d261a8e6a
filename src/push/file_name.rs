//! Names of uploaded files: `FILEHASH.nar` and an extension, below `nar/` of a binary cache.
//!
//! The hash is that of the file, by which the narinfo that follows names it. The extensions are those of Nix
//! (`BinaryCacheStore::addToStoreCommon`), which has none for gzip in most releases.

use std::fmt;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::narinfo::Compression;

/// Folder of NARs in the URLs of a binary cache.
const FOLDER: &str = "nar/";

/// Extension of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Extension {
    None,
    Xz,
    Zst,
    Bz2,
    Gz,
    Br,
    Lzip,
    Lz,
}

impl Extension {
    const ALL: [Self; 8] = [Self::None, Self::Xz, Self::Zst, Self::Bz2, Self::Gz, Self::Br, Self::Lzip, Self::Lz];

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => ".nar",
            Self::Xz => ".nar.xz",
            Self::Zst => ".nar.zst",
            Self::Bz2 => ".nar.bz2",
            Self::Gz => ".nar.gz",
            Self::Br => ".nar.br",
            Self::Lzip => ".nar.lzip",
            Self::Lz => ".nar.lz",
        }
    }
}

/// Name of an uploaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadName {
    sha256: [u8; 32],
    extension: Extension,
}

impl UploadName {
    /// Parses `FILEHASH.nar`, `FILEHASH.nar.xz` and the like: the last segment of a URL, with 52 nix32 characters.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (hash, extension) = name.split_at_checked(NarHash::NIX32_LEN)?;
        let extension = Extension::ALL.into_iter().find(|known| known.as_str() == extension)?;
        Some(Self { sha256: *NarHash::from_nix32(hash)?.as_bytes(), extension })
    }

    /// Parses `nar/` and a name: the URL in a narinfo.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::parse(url.strip_prefix(FOLDER)?)
    }

    /// Returns the SHA-256 of the file.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Returns whether Nix gives this extension to files of this compression.
    #[must_use]
    pub fn fits(&self, compression: Compression) -> bool {
        match compression {
            Compression::None => self.extension == Extension::None,
            Compression::Xz => self.extension == Extension::Xz,
            Compression::Zstd => self.extension == Extension::Zst,
            Compression::Bzip2 => self.extension == Extension::Bz2,
            Compression::Gzip => matches!(self.extension, Extension::None | Extension::Gz),
            Compression::Brotli => self.extension == Extension::Br,
            Compression::Lzip => matches!(self.extension, Extension::Lzip | Extension::Lz),
            _ => false,
        }
    }
}

/// Writes the name without the folder.
impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&NarHash::from_digest(self.sha256).to_nix32())?;
        f.write_str(self.extension.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    #[test]
    fn each_name_parses_to_what_it_was_written_from() {
        for extension in Extension::ALL {
            let text = format!("{HASH}{}", extension.as_str());
            let name = UploadName::parse(&text).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(UploadName::from_url(&format!("nar/{text}")), Some(name));
        }
    }

    #[test]
    fn only_a_hash_and_a_known_extension_are_a_name() {
        let upper = HASH.to_uppercase();
        let cases =
            ["", "..", HASH, "x.nar", &format!("{HASH}.nar.exe"), &format!("{HASH}.nar/"), &format!("{upper}.nar")];
        for name in cases.into_iter().chain([&*format!("../{HASH}.nar"), &*format!("{HASH}.narinfo"), &*"é".repeat(60)])
        {
            assert_eq!(UploadName::parse(name), None, "{name}");
        }
        assert_eq!(UploadName::from_url(&format!("{HASH}.nar")), None);
        assert_eq!(UploadName::from_url(&format!("nar/nar/{HASH}.nar")), None);
        assert_eq!(UploadName::from_url(&format!("nar//{HASH}.nar")), None);
    }

    #[test]
    fn the_extension_has_to_be_that_of_the_compression() {
        let name = |extension: &str| UploadName::parse(&format!("{HASH}.nar{extension}")).unwrap();
        assert!(name("").fits(Compression::None) && name("").fits(Compression::Gzip));
        assert!(name(".gz").fits(Compression::Gzip) && !name(".gz").fits(Compression::None));
        assert!(name(".xz").fits(Compression::Xz) && !name(".xz").fits(Compression::Zstd));
        assert!(name(".lzip").fits(Compression::Lzip) && !name("").fits(Compression::Xz));
    }
}
