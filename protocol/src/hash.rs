//! Hashes as Nix writes them: `sha256:<nix32>`, `sha256:<hex>`, `sha256:<base64>` and SRI `sha256-<base64>`.
//!
//! A [`Hash`](struct@Hash) always has the length of its algorithm's digest. A [`NarHash`] is always SHA-256, the only algorithm of NARs
//! in the worker protocol and in signatures.
//!
//! Source: Nix `src/libutil/hash.cc`.

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::{base64, nix32};

/// A hash algorithm of content addresses.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// BLAKE3, 32 bytes; behind an experimental feature of Nix 2.30 and later.
    Blake3,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512, Self::Blake3];

    /// Returns the name that precedes the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// Returns the length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Returns the algorithm of this name, or `None` if Nix has no such.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Error of parsing a hash.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The text does not begin with `algo:` or `algo-`, or Nix has no such algorithm.
    #[error("hash without a known algorithm")]
    Algorithm,
    /// The digest has a wrong length, or a character outside of the encoding that its length implies.
    #[error("malformed {} digest", .0.name())]
    Digest(Algorithm),
    /// The hash has another algorithm where SHA-256 is required.
    #[error("{} hash where sha256 is required", .0.name())]
    NotSha256(Algorithm),
}

/// A digest and its algorithm.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash {
    algorithm: Algorithm,
    digest: Box<[u8]>,
}

impl Hash {
    /// Creates a hash from a SHA-256 digest.
    #[must_use]
    pub fn from_sha256(digest: [u8; 32]) -> Self {
        Self { algorithm: Algorithm::Sha256, digest: digest.into() }
    }

    /// Parses SRI, or `algo:` followed by hex, nix32 or base64, which the length distinguishes as in Nix.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let (name, digest, sri) = match (text.split_once(':'), text.split_once('-')) {
            (Some((name, digest)), _) => (name, digest, false),
            (None, Some((name, digest))) => (name, digest, true),
            (None, None) => return Err(HashError::Algorithm),
        };
        let algorithm = Algorithm::from_name(name).ok_or(HashError::Algorithm)?;
        let digest = if sri { of_base64(digest, algorithm) } else { any_base(digest, algorithm) };
        Ok(Self { algorithm, digest: digest.ok_or(HashError::Digest(algorithm))?.into() })
    }

    /// Returns the algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the raw digest.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Returns `algo:<lower-case hex>`, the form in fingerprints of store paths and in names of derivation outputs.
    #[must_use]
    pub fn to_prefixed_hex(&self) -> String {
        format!("{}:{}", self.algorithm.name(), HEXLOWER.encode(&self.digest))
    }
}

/// Writes `algo:<nix32>`, the form of content addresses and narinfos.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(&nix32::encode(&self.digest))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn of_base64(text: &str, algorithm: Algorithm) -> Option<Vec<u8>> {
    base64::decode(text).filter(|digest| digest.len() == algorithm.digest_len())
}

fn any_base(text: &str, algorithm: Algorithm) -> Option<Vec<u8>> {
    let len = algorithm.digest_len();
    let digest = if text.len() == len * 2 {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?
    } else if text.len() == (len * 8).div_ceil(5) {
        nix32::decode(text.as_bytes()).ok()?
    } else {
        of_base64(text, algorithm)?
    };
    (digest.len() == len).then_some(digest)
}

/// SHA-256 of a NAR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NarHash([u8; 32]);

impl NarHash {
    /// Length of [`NarHash::to_nix32`], in characters.
    pub const NIX32_LEN: usize = 52;

    /// Creates a hash from a digest.
    #[must_use]
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Parses what nix-daemon sends, 64 hex digits without an algorithm, or any form of [`Hash::parse`] that is SHA-256.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        if !text.contains([':', '-']) {
            let digest = any_base(text, Algorithm::Sha256).ok_or(HashError::Digest(Algorithm::Sha256))?;
            return Self::try_from_slice(&digest).ok_or(HashError::Digest(Algorithm::Sha256));
        }
        let hash = Hash::parse(text)?;
        if hash.algorithm != Algorithm::Sha256 {
            return Err(HashError::NotSha256(hash.algorithm));
        }
        Self::try_from_slice(&hash.digest).ok_or(HashError::Digest(Algorithm::Sha256))
    }

    /// Parses exactly 52 nix32 characters, the form in URLs of NARs.
    #[must_use]
    pub fn from_nix32(text: &str) -> Option<Self> {
        if text.len() != Self::NIX32_LEN {
            return None;
        }
        Self::try_from_slice(&nix32::decode(text.as_bytes()).ok()?)
    }

    fn try_from_slice(digest: &[u8]) -> Option<Self> {
        digest.try_into().ok().map(Self)
    }

    /// Returns the raw digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns 52 nix32 characters.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        nix32::encode(&self.0)
    }

    /// Returns 64 lower-case hex digits, the form in the worker protocol.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// Writes `sha256:<nix32>`.
impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(&self.to_nix32())
    }
}

impl From<NarHash> for Hash {
    fn from(NarHash(digest): NarHash) -> Self {
        Self::from_sha256(digest)
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_forms_of_one_hash_are_equal() {
        let hex = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let nix32 = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let base64 = "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let sri = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        for form in [hex, nix32, base64, sri] {
            assert_eq!(Hash::parse(form).unwrap().to_string(), nix32);
            assert_eq!(NarHash::parse(form).unwrap().to_string(), nix32);
        }
        assert_eq!(NarHash::parse(&hex[7..]).unwrap().to_string(), nix32);
        assert_eq!(Hash::parse(nix32).unwrap().to_prefixed_hex(), hex);
    }

    #[test]
    fn what_is_no_sha256_is_no_nar_hash() {
        assert_eq!(
            NarHash::parse("sha1:0000000000000000000000000000000000000000"),
            Err(HashError::NotSha256(Algorithm::Sha1))
        );
        assert_eq!(NarHash::parse("crc:00"), Err(HashError::Algorithm));
        assert_eq!(NarHash::parse(""), Err(HashError::Digest(Algorithm::Sha256)));
        assert_eq!(NarHash::parse("sha256:"), Err(HashError::Digest(Algorithm::Sha256)));
        assert_eq!(NarHash::from_nix32("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7"), None);
        assert_eq!(NarHash::from_nix32(&"E".repeat(52)), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let _ = Hash::parse(&text);
            let _ = NarHash::parse(&text);
        }

        #[test]
        fn every_digest_survives_its_forms(digest: [u8; 32]) {
            let hash = NarHash::from_digest(digest);
            prop_assert_eq!(NarHash::parse(&hash.to_hex()), Ok(hash));
            prop_assert_eq!(NarHash::parse(&hash.to_string()), Ok(hash));
            prop_assert_eq!(NarHash::from_nix32(&hash.to_nix32()), Some(hash));
        }
    }
}
