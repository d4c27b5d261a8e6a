//! Tokens that were verified, so that a client's next request costs a hash instead of a signature.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::clock_cache::ClockCache;
use crate::sync::Mutex;

/// Upper bound of the memory for verified tokens, in bytes: some thousand of them.
const MAX_BYTES: usize = 1 << 20;

/// Hash of a token. Tokens themselves are not kept, since they are credentials.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

/// Result of the verification of a token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    /// The name of its principal.
    pub(super) name: Arc<str>,
    /// The second at which it expires, in Unix time.
    pub(super) expiry: u64,
    /// Position of the configured issuer.
    pub(super) issuer: usize,
    /// The key set that verified it.
    pub(super) key_set: u64,
}

/// Verified tokens by their hash, bounded in bytes.
pub(super) struct Remembered(Mutex<ClockCache<TokenHash, Verified>>);

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Self(Mutex::new(ClockCache::new(MAX_BYTES)))
    }
}

impl Remembered {
    /// Returns what a token proved. The caller checks that this is still true.
    pub(super) fn find(&self, token: &TokenHash) -> Option<Verified> {
        self.0.lock().find(token).cloned()
    }

    pub(super) fn insert(&self, token: TokenHash, verified: Verified) {
        let heap = verified.name.len() + 2 * size_of::<usize>();
        self.0.lock().insert(token, verified, heap);
    }

    pub(super) fn remove(&self, token: &TokenHash) {
        self.0.lock().remove(token);
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remembered").field(&self.0.lock().len()).finish()
    }
}
