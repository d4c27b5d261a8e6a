//! Key sets of issuers (RFC 7517 section 5).

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::algorithm::Algorithm;
use super::json;
use super::key::Key;
use super::token_error::TokenError;

/// Upper bound of a key set, in bytes. That of GitHub has 5 KiB.
pub const MAX_KEY_SET: usize = 1 << 20;

/// Upper bound of the number of keys in a set.
const MAX_KEYS: usize = 100;

/// Upper bound of the keys that are tried for one token: a signature of an RSA key of 8192 bits takes a millisecond to verify.
const MAX_TRIED: usize = 8;

/// Keys of an issuer that verify tokens.
#[derive(Debug)]
pub struct KeySet {
    /// Tells key sets of this process apart.
    pub(super) id: u64,
    keys: Vec<Key>,
}

/// Reason for which a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is longer than [`MAX_KEY_SET`].
    #[error("longer than {MAX_KEY_SET} bytes")]
    TooLong,
    /// It is not JSON, or has a key of an object twice.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It has no array of keys.
    #[error("no array \"keys\" in it")]
    NoArray,
    /// It has more than a hundred keys.
    #[error("more than {MAX_KEYS} keys in it")]
    TooMany,
    /// None of its keys can verify tokens.
    #[error("no key in it can verify tokens{}", .0.map(|why| format!(": of one, {why}")).unwrap_or_default())]
    NoKeys(Option<&'static str>),
}

impl KeySet {
    /// Parses a key set. Keys that cannot verify tokens are left out, as RFC 7517 section 5 demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if bytes.len() > MAX_KEY_SET {
            return Err(KeySetError::TooLong);
        }
        let document = json::parse_object(bytes)?;
        let Some(Value::Array(entries)) = document.get("keys") else { return Err(KeySetError::NoArray) };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let (mut keys, mut unusable) = (Vec::new(), None);
        for entry in entries {
            match entry.as_object().ok_or("it is not an object").and_then(Key::from_jwk) {
                Ok(key) => keys.push(key),
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoKeys(unusable));
        }
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), keys })
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether both have the same keys.
    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Verifies a signature: by the keys of this `kid`, else by all of this algorithm. The algorithm is that of the key: a
    /// token that names another is refused before anything is computed.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let fitting = |key: &&Key| named(key) && key.algorithm() == algorithm;
        match self.keys.iter().filter(fitting).count() {
            0 if kid.is_some() && self.keys.iter().any(|key| named(&key)) => Err(TokenError::KeyAlgorithm),
            0 => Err(TokenError::UnknownKey),
            1..=MAX_TRIED => {
                let verified = self.keys.iter().filter(fitting).any(|key| key.verifies(signed, signature));
                if verified { Ok(()) } else { Err(TokenError::Signature) }
            }
            _ => Err(TokenError::AmbiguousKey),
        }
    }
}
