//! Content addresses: `text:sha256:<nix32>`, `fixed:[r:|git:]<algo>:<nix32>`.
//!
//! Parses and renders them, and compares a store path with the one that follows from a content address. A server needs
//! that: clients of Nix 2.8 to 2.34 fail an assertion if the path does not follow from the content address.
//!
//! Source: Nix `src/libstore/content-address.cc`, and `makeFixedOutputPathFromCA` in `store-dir-config.cc`.

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::hash::{Algorithm, Hash};
use crate::nix32;
use crate::store_path::{StoreDir, StorePath};

/// Object that the hash of a content address is taken of.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The bytes of a text file, which may have references.
    Text,
    /// The bytes of a single file.
    Flat,
    /// The NAR of the path.
    Recursive,
    /// The git tree or blob of the path.
    Git,
}

impl Method {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Text => "text:",
            Self::Flat => "fixed:",
            Self::Recursive => "fixed:r:",
            Self::Git => "fixed:git:",
        }
    }
}

/// Content address of a store path: a method and a hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContentAddress {
    method: Method,
    hash: Hash,
}

impl ContentAddress {
    /// Parses the text. Returns `None` for an unknown form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // `fixed:` is a prefix of the other two: longest first.
        let methods = [Method::Text, Method::Recursive, Method::Git, Method::Flat];
        let (method, rest) = methods.into_iter().find_map(|m| Some((m, text.strip_prefix(m.prefix())?)))?;
        let hash = Hash::parse(rest).ok()?;
        // An SRI hash would parse, but nix-daemon does not write one here, and it would be rendered differently.
        let known = hash.to_string() == rest && (method != Method::Text || hash.algorithm() == Algorithm::Sha256);
        known.then_some(Self { method, hash })
    }

    /// Returns the object that the hash is taken of.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns the hash.
    #[must_use]
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Returns whether `path` is the store path that follows from this content address and `references`.
    #[must_use]
    pub fn matches_path(&self, path: &StorePath, references: &[StorePath], store: &StoreDir) -> bool {
        let to_itself = references.contains(path);
        let others: Vec<&StorePath> = references.iter().filter(|reference| *reference != path).collect();
        let kind = match self.method {
            Method::Text if to_itself => return false,
            Method::Text => with_references("text", &others, store),
            Method::Recursive if self.hash.algorithm() == Algorithm::Sha256 => {
                let mut kind = with_references("source", &others, store);
                if to_itself {
                    kind.push_str(":self");
                }
                kind
            }
            Method::Flat | Method::Recursive | Method::Git => {
                let method = self.method.prefix().trim_start_matches("fixed:");
                let inner = format!("fixed:out:{method}{}:", self.hash.to_prefixed_hex());
                let inner = hex_sha256(inner.as_bytes());
                return references.is_empty() && hash_part(&format!("output:out:sha256:{inner}"), path, store);
            }
        };
        hash_part(&format!("{kind}:{}", self.hash.to_prefixed_hex()), path, store)
    }
}

fn with_references(kind: &str, references: &[&StorePath], store: &StoreDir) -> String {
    references.iter().fold(kind.to_owned(), |kind, reference| kind + ":" + &store.full_path(reference))
}

fn hex_sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// Returns whether the hash part of `path` is that of `<kind and hash>:<store>:<name>`: its SHA-256, folded to 20 bytes by
/// xor.
fn hash_part(kind_and_hash: &str, path: &StorePath, store: &StoreDir) -> bool {
    let fingerprint = format!("{kind_and_hash}:{store}:{}", path.name());
    let mut folded = [0u8; 20];
    for (index, byte) in digest(&SHA256, fingerprint.as_bytes()).as_ref().iter().enumerate() {
        folded[index % 20] ^= byte;
    }
    nix32::encode(&folded) == path.hash_part().as_str()
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.method.prefix(), self.hash)
    }
}

impl fmt::Debug for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_daemons_write_survive_and_others_are_unknown() {
        let sha256 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        for text in [
            format!("text:sha256:{sha256}"),
            format!("fixed:sha256:{sha256}"),
            format!("fixed:r:sha256:{sha256}"),
            format!("fixed:git:sha1:{}", "0".repeat(32)),
            format!("fixed:md5:{}", "0".repeat(26)),
        ] {
            assert_eq!(ContentAddress::parse(&text).unwrap().to_string(), text);
        }
        for text in
            ["", "text:md5:00000000000000000000000000", "fixed:r:", "sha256:x", "fixed:r:crc:0", "fixed:sha256-x"]
        {
            assert_eq!(ContentAddress::parse(text), None, "{text}");
        }
    }
}
