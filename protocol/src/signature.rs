//! Ed25519 signatures and keys in Nix's textual form, `<key name>:<base64>`.
//!
//! A [`Signature`] always has a non-empty name and 64 bytes: Nix 2.34 and later reject a narinfo that has one malformed
//! `Sig` line.
//!
//! Source: Nix `src/libutil/signature/local-keys.cc`.

use std::borrow::Borrow;
use std::fmt;

use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::base64;

/// Length of an Ed25519 signature, in bytes.
const SIGNATURE_LEN: usize = 64;
/// Length of an Ed25519 public key, in bytes.
const PUBLIC_LEN: usize = 32;
/// Length of a secret key in Nix, in bytes: the seed, then the public key (libsodium's form).
const SECRET_LEN: usize = 64;
/// Longest name of a key, in bytes; real ones are host names.
const MAX_KEY_NAME: usize = 255;

/// Error of parsing a signature or a key, or of generating a key.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is missing or too long, or the colon is missing.
    #[error("no key name before a colon")]
    Name,
    /// The name has a character that clients may not show or compare as intended, such as a byte order mark.
    #[error("the key name contains {0:?}; only printable ASCII characters except the space are allowed")]
    NameCharacter(char),
    /// The part after the colon is not padded base64.
    #[error("the part after the colon is not base64")]
    Base64,
    /// The decoded bytes have a wrong length.
    #[error("{found} bytes where {expected} are required")]
    Length {
        /// Required length, in bytes.
        expected: usize,
        /// Actual length, in bytes.
        found: usize,
    },
    /// The public half of a secret key does not belong to its secret half.
    #[error("the public half does not belong to the secret half")]
    Inconsistent,
    /// The random number generator of the system failed.
    #[error("the random number generator of the system failed")]
    Randomness,
}

/// Name of a key: the part before the colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// Creates a name. Fails if it is empty, or has other characters than printable ASCII without colon and space: clients
    /// compare names byte by byte, and other characters may look alike.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        if name.is_empty() || name.len() > MAX_KEY_NAME || name.contains(':') {
            return Err(KeyError::Name);
        }
        match name.chars().find(|character| !character.is_ascii_graphic()) {
            Some(character) => Err(KeyError::NameCharacter(character)),
            None => Ok(Self(name.into())),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Allows lookups by text. Hash and order are those of the text.
impl Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn split<const N: usize>(text: &str) -> Result<(KeyName, [u8; N]), KeyError> {
    let (name, encoded) = text.split_once(':').ok_or(KeyError::Name)?;
    let name = KeyName::new(name)?;
    let bytes = base64::decode(encoded).ok_or(KeyError::Base64)?;
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| KeyError::Length { expected: N, found })?;
    Ok((name, bytes))
}

/// Signature by a named key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature {
    key: KeyName,
    bytes: [u8; SIGNATURE_LEN],
}

impl Signature {
    /// Parses `<key name>:<base64 of 64 bytes>`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (key, bytes) = split(text)?;
        Ok(Self { key, bytes })
    }

    /// Returns the name of the key that made it.
    #[must_use]
    pub const fn key(&self) -> &KeyName {
        &self.key
    }

    /// Returns the part after the colon.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.bytes)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.to_base64())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Public key that verifies signatures, as listed in `trusted-public-keys`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    bytes: [u8; PUBLIC_LEN],
}

impl PublicKey {
    /// Parses `<key name>:<base64 of 32 bytes>`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = split(text)?;
        Ok(Self { name, bytes })
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Returns whether `signature` has the name of this key and is valid for `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.name == signature.key
            && UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, &signature.bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(&self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Secret key that signs, as `nix-store --generate-binary-cache-key` writes it. `Debug` shows only the public half.
pub struct SecretKey {
    public: PublicKey,
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// Parses `<key name>:<base64 of 64 bytes>`, the seed and its public key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = split::<SECRET_LEN>(text)?;
        let (seed, public) = bytes.split_at(SECRET_LEN - PUBLIC_LEN);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| KeyError::Inconsistent)?;
        Self::from_pair(name, pair)
    }

    /// Generates a key. Returns it and its text, which is the only way to get the secret out of this type.
    pub fn generate(name: KeyName) -> Result<(Self, String), KeyError> {
        let seed: [u8; SECRET_LEN - PUBLIC_LEN] =
            ring::rand::generate(&SystemRandom::new()).map_err(|_| KeyError::Randomness)?.expose();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Inconsistent)?;
        let mut both = seed.to_vec();
        both.extend_from_slice(pair.public_key().as_ref());
        let text = format!("{name}:{}", BASE64.encode(&both));
        Ok((Self::from_pair(name, pair)?, text))
    }

    fn from_pair(name: KeyName, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Inconsistent)?;
        Ok(Self { public: PublicKey { name, bytes }, pair })
    }

    /// Returns the public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`, which for a store path is [`PathInfo::fingerprint`](crate::path_info::PathInfo::fingerprint).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; SIGNATURE_LEN];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature { key: self.public.name.clone(), bytes }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_a_new_key_verifies_with_its_public_key_only() {
        let (key, text) = SecretKey::generate(KeyName::new("cache-1").unwrap()).unwrap();
        let again = SecretKey::parse(&text).unwrap();
        let signature = again.sign(b"message");
        assert_eq!(Signature::parse(&signature.to_string()), Ok(signature.clone()));
        assert!(key.public_key().verifies(b"message", &signature));
        assert!(!key.public_key().verifies(b"massage", &signature));
        let (other, _) = SecretKey::generate(KeyName::new("cache-1").unwrap()).unwrap();
        assert!(!other.public_key().verifies(b"message", &signature));
        assert_eq!(PublicKey::parse(&key.public_key().to_string()).as_ref(), Ok(key.public_key()));
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        let (key, text) = SecretKey::generate(KeyName::new("k").unwrap()).unwrap();
        assert!(!format!("{key:?}").contains(&text[2..40]));
    }

    #[test]
    fn each_malformed_key_says_what_is_wrong() {
        let (key, secret) = SecretKey::generate(KeyName::new("k").unwrap()).unwrap();
        let public = key.public_key().to_string();
        assert_eq!(SecretKey::parse(&public).unwrap_err(), KeyError::Length { expected: 64, found: 32 });
        assert_eq!(PublicKey::parse(&secret).unwrap_err(), KeyError::Length { expected: 32, found: 64 });
        assert_eq!(Signature::parse("k:").unwrap_err(), KeyError::Length { expected: 64, found: 0 });
        assert_eq!(Signature::parse("k").unwrap_err(), KeyError::Name);
        assert_eq!(Signature::parse(&secret[1..]).unwrap_err(), KeyError::Name);
        assert_eq!(Signature::parse("k:not base64!").unwrap_err(), KeyError::Base64);
        let wrong_half = format!("k:{}", BASE64.encode(&[7; 64]));
        assert_eq!(SecretKey::parse(&wrong_half).unwrap_err(), KeyError::Inconsistent);
        assert_eq!(KeyName::new(""), Err(KeyError::Name));
    }

    #[test]
    fn a_key_name_is_printable_ascii() {
        for (name, character) in
            [("a\nb", '\n'), ("a b", ' '), ("\u{feff}cache-1", '\u{feff}'), ("caché-1", 'é'), ("a\u{200b}", '\u{200b}')]
        {
            assert_eq!(KeyName::new(name), Err(KeyError::NameCharacter(character)));
        }
        assert!(KeyName::new("cache.example.org-1_\"'+").is_ok());
    }
}
