//! narinfo: the metadata of a path in a binary cache.
//!
//! Renders and parses the text. The output satisfies the strictest readers known: every field occurs at most once and in
//! Nix's order, an empty `References` keeps its space, and all `Sig` lines are well-formed.
//!
//! Source: Nix `src/libstore/nar-info.cc`; go-nix and snix reject more than Nix does.

use std::fmt::{self, Write as _};

use crate::content_address::ContentAddress;
use crate::hash::{Hash, NarHash};
use crate::path_info::PathInfo;
use crate::signature::Signature;
use crate::signature_set::merge_signatures;
use crate::store_path::{StoreDir, StorePath};

/// Longest text that is parsed, in bytes: half a million references.
const MAX_NARINFO: usize = 32 * 1024 * 1024;

/// Compression of the file at a narinfo's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of the format
#[non_exhaustive]
pub enum Compression {
    None,
    Zstd,
    Xz,
    Bzip2,
    Gzip,
    Brotli,
    Lzip,
}

impl Compression {
    const ALL: [Self; 7] = [Self::None, Self::Zstd, Self::Xz, Self::Bzip2, Self::Gzip, Self::Brotli, Self::Lzip];

    /// Returns the name in a narinfo. It is lower case: Nix 2.34 aborts on any other.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Lzip => "lzip",
        }
    }
}

/// URL of a NAR, relative to the root of the cache. It has no leading slash, query, fragment, colon, backslash or white
/// space, which clients interpret differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Box<str>);

impl Url {
    /// Creates a URL from its text. Fails with [`NarInfoError::Field`] if it is not of this form.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, NarInfoError> {
        let text = text.into();
        let plain = |c: u8| c.is_ascii_graphic() && !matches!(c, b'?' | b'#' | b':' | b'\\');
        // Without an early return, so that it is vectorised: each narinfo has a URL.
        let is_plain = text.bytes().fold(true, |are, c| are & plain(c));
        if text.is_empty() || text.starts_with('/') || !is_plain {
            return Err(NarInfoError::Field("URL"));
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Error of parsing a narinfo.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// The text is too long.
    #[error("narinfo of more than {MAX_NARINFO} bytes")]
    TooLong,
    /// A line is not `name: value`, or the last line has no line feed. Holds the number of the line, 0 for the latter.
    #[error("narinfo line {0} is not \"name: value\"")]
    Line(usize),
    /// A field is malformed, or occurs twice. Holds its name.
    #[error("malformed narinfo field {0}")]
    Field(&'static str),
    /// A required field is missing. Holds its name.
    #[error("narinfo without {0}")]
    Missing(&'static str),
}

/// A narinfo: metadata of a path, and where to download its NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// Store path.
    pub path: StorePath,
    /// URL of the file that has the NAR.
    pub url: Url,
    /// Compression of that file.
    pub compression: Compression,
    /// Hash of that file, if known.
    pub file_hash: Option<Hash>,
    /// Size of that file in bytes, if known.
    pub file_size: Option<u64>,
    /// Hash of the NAR.
    pub nar_hash: NarHash,
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// Paths that it refers to, in ascending order.
    pub references: Vec<StorePath>,
    /// Derivation that built it, if known.
    pub deriver: Option<StorePath>,
    /// Signatures. Several may be by one key; a client needs one that it can verify.
    pub signatures: Vec<Signature>,
    /// Content address, if the path follows from it.
    pub content_address: Option<ContentAddress>,
}

impl NarInfo {
    /// Creates the narinfo of a path from its path info and a cache's own signatures.
    ///
    /// Omits a content address from which the path does not follow, on which clients of Nix 2.8 to 2.34 abort, and a
    /// deriver that is not a derivation. Omits signatures of the path info under the names of own keys: a forged one must
    /// not replace the genuine one.
    #[must_use]
    pub fn from_path_info(
        path: &StorePath,
        info: &PathInfo,
        store: &StoreDir,
        url: Url,
        compression: Compression,
        own_signatures: Vec<Signature>,
    ) -> Self {
        let follows = |address: &&ContentAddress| address.matches_path(path, &info.references, store);
        Self {
            path: path.clone(),
            url,
            compression,
            file_hash: None,
            file_size: None,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            references: info.references.clone(),
            deriver: info.deriver.clone().filter(StorePath::is_derivation),
            signatures: merge_signatures(own_signatures, &info.signatures),
            content_address: info.content_address.as_ref().filter(follows).cloned(),
        }
    }

    /// Renders the text.
    #[must_use]
    pub fn render(&self, store: &StoreDir) -> String {
        let references: Vec<&str> = self.references.iter().map(StorePath::base_name).collect();
        let file_hash = self.file_hash.as_ref().map(Hash::to_string);
        let pieces = RawFields {
            path: &self.path,
            url: &self.url,
            compression: self.compression,
            file_hash: file_hash.as_deref(),
            file_size: self.file_size,
            nar_hash: &self.nar_hash.to_string(),
            nar_size: self.nar_size,
            references: &references.join(" "),
            deriver: self.deriver.as_ref().map(StorePath::base_name),
            lines: [&self.trailing_lines(), ""],
        };
        pieces.render(store)
    }

    /// Renders the last lines of the text: signatures and content address.
    #[must_use]
    pub fn trailing_lines(&self) -> String {
        let mut text = String::new();
        for signature in &self.signatures {
            // Writing to a string does not fail.
            let _ = writeln!(text, "Sig: {signature}");
        }
        if let Some(address) = &self.content_address {
            let _ = writeln!(text, "CA: {address}");
        }
        text
    }

    /// Parses the text, as strictly as the strictest clients, but ignores unknown fields.
    pub fn parse(text: &str, store: &StoreDir) -> Result<Self, NarInfoError> {
        use NarInfoError::{Field, Missing};
        if text.len() > MAX_NARINFO {
            return Err(NarInfoError::TooLong);
        }
        let mut fields = Fields::default();
        let lines = text.strip_suffix('\n').ok_or(NarInfoError::Line(0))?;
        for (index, line) in lines.split('\n').enumerate() {
            let (name, value) = line.split_once(": ").ok_or(NarInfoError::Line(index + 1))?;
            fields.set(name, value, store)?;
        }
        Ok(Self {
            path: fields.path.ok_or(Missing("StorePath"))?,
            url: fields.url.ok_or(Missing("URL"))?,
            compression: fields.compression.unwrap_or(Compression::Bzip2),
            file_hash: fields.file_hash,
            file_size: fields.file_size,
            nar_hash: fields.nar_hash.ok_or(Missing("NarHash"))?,
            nar_size: fields.nar_size.filter(|size| *size > 0).ok_or(Field("NarSize"))?,
            references: fields.references.ok_or(Missing("References"))?,
            deriver: fields.deriver,
            signatures: fields.signatures,
            content_address: fields.content_address,
        })
    }
}

/// Fields of a narinfo, the longest of them already rendered: cheaper to render than a [`NarInfo`].
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // as in [`NarInfo`]
pub struct RawFields<'a> {
    pub path: &'a StorePath,
    pub url: &'a Url,
    pub compression: Compression,
    pub file_hash: Option<&'a str>,
    pub file_size: Option<u64>,
    pub nar_hash: &'a str,
    pub nar_size: u64,
    /// Base names, separated by spaces.
    pub references: &'a str,
    /// Base name.
    pub deriver: Option<&'a str>,
    /// Last lines, complete, as [`NarInfo::trailing_lines`] renders them.
    pub lines: [&'a str; 2],
}

impl RawFields<'_> {
    /// Renders the text.
    #[must_use]
    pub fn render(&self, store: &StoreDir) -> String {
        let field = |name, value: Option<_>| value.map_or(["", "", ""], |value| ["\n", name, value]);
        let (nar_size, file_size) = (self.nar_size.to_string(), self.file_size.map(|size| size.to_string()));
        // Joined at once: one allocation of exactly the size of the text.
        [
            ["StorePath: ", store.as_str(), "/"],
            [self.path.base_name(), "\nURL: ", self.url.as_str()],
            field("Compression: ", Some(self.compression.name())),
            field("FileHash: ", self.file_hash),
            field("FileSize: ", file_size.as_deref()),
            field("NarHash: ", Some(self.nar_hash)),
            field("NarSize: ", Some(&nar_size)),
            field("References: ", Some(self.references)),
            field("Deriver: ", self.deriver),
            ["\n", self.lines[0], self.lines[1]],
        ]
        .as_flattened()
        .concat()
    }
}

/// Fields that were parsed so far.
#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<Url>,
    compression: Option<Compression>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<NarHash>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    deriver: Option<StorePath>,
    signatures: Vec<Signature>,
    content_address: Option<ContentAddress>,
}

impl Fields {
    fn set(&mut self, name: &str, value: &str, store: &StoreDir) -> Result<(), NarInfoError> {
        let references = |value: &str| -> Option<Vec<StorePath>> {
            if value.is_empty() {
                return Some(Vec::new());
            }
            value.split(' ').map(|name| StorePath::from_base_name(name).ok()).collect()
        };
        let compression = |value: &str| Compression::ALL.into_iter().find(|compression| compression.name() == value);
        match name {
            "StorePath" => once(&mut self.path, store.parse(value).ok(), "StorePath"),
            "URL" => once(&mut self.url, Url::new(value).ok(), "URL"),
            "Compression" => once(&mut self.compression, compression(value), "Compression"),
            "FileHash" => once(&mut self.file_hash, Hash::parse(value).ok(), "FileHash"),
            "FileSize" => once(&mut self.file_size, number(value), "FileSize"),
            "NarHash" => once(&mut self.nar_hash, NarHash::parse(value).ok(), "NarHash"),
            "NarSize" => once(&mut self.nar_size, number(value), "NarSize"),
            "References" => once(&mut self.references, references(value), "References"),
            "Deriver" => once(&mut self.deriver, StorePath::from_base_name(value).ok(), "Deriver"),
            "CA" => once(&mut self.content_address, ContentAddress::parse(value), "CA"),
            "Sig" => {
                self.signatures.push(Signature::parse(value).map_err(|_| NarInfoError::Field("Sig"))?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Parses a number without sign and leading zeros.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn once<T>(slot: &mut Option<T>, value: Option<T>, name: &'static str) -> Result<(), NarInfoError> {
    if slot.is_some() || value.is_none() {
        return Err(NarInfoError::Field(name));
    }
    *slot = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "StorePath: /nix/store/lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello
URL: nar/lq7lf2dg0c05ibn8r201m1cgdcj5i60a-0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar
Compression: none
NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
NarSize: 120
References: 3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j-pb-b lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello
Deriver: ccblbgkvvrp8kk457x2sjlsxvf22bjlz-pb-b.drv
CA: fixed:r:sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
";

    #[test]
    fn what_is_rendered_parses_to_the_same() {
        let store = StoreDir::default();
        let parsed = NarInfo::parse(TEXT, &store).unwrap();
        assert_eq!(parsed.render(&store), TEXT);
    }

    #[test]
    fn no_references_are_a_line_with_a_space() {
        let store = StoreDir::default();
        let mut info = NarInfo::parse(TEXT, &store).unwrap();
        info.references.clear();
        assert!(info.render(&store).contains("\nReferences: \n"));
        assert_eq!(NarInfo::parse(&info.render(&store), &store), Ok(info));
    }

    #[test]
    fn what_strict_clients_refuse_is_refused() {
        let store = StoreDir::default();
        let cases: [(&str, &str, NarInfoError); 9] = [
            ("References: 3", "References:  3", NarInfoError::Field("References")),
            ("NarSize: 120", "NarSize: 0", NarInfoError::Field("NarSize")),
            ("NarSize: 120", "NarSize: +120", NarInfoError::Field("NarSize")),
            ("NarSize: 120", "NarSize: 0120", NarInfoError::Field("NarSize")),
            ("NarSize: 120", "NarSize: 120\nNarSize: 120", NarInfoError::Field("NarSize")),
            ("Compression: none", "Compression: lzw", NarInfoError::Field("Compression")),
            ("URL: nar", "URL: /nar", NarInfoError::Field("URL")),
            ("\nCA: ", "\n\nCA: ", NarInfoError::Line(8)),
            ("CA: ", "Sig: k:AAAA\nCA: ", NarInfoError::Field("Sig")),
        ];
        for (from, to, error) in cases {
            assert_eq!(NarInfo::parse(&TEXT.replace(from, to), &store), Err(error), "{to}");
        }
        assert_eq!(NarInfo::parse(TEXT.trim_end(), &store), Err(NarInfoError::Line(0)));
        assert!(NarInfo::parse(&TEXT.replace("CA:", "X-Later:"), &store).is_ok());
    }
}
