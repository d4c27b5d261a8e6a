//! The key of a compressed NAR.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use crate::nar_cache::encode::encoding::EncodingTag;

/// Identifies a compressed NAR: the NAR and the encoding that it was compressed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryKey {
    pub(crate) tag: Arc<EncodingTag>,
    pub(crate) nar_hash: NarHash,
}

/// Tag of files from elsewhere. It is no encoding of this program: none has a release without a digit.
const FETCHED: &str = "zstd-fetched";

impl EntryKey {
    /// Returns the key of a file from elsewhere, which is under its own hash.
    pub(crate) fn of_file(sha256: &[u8; 32]) -> Self {
        Self { tag: Arc::new(EncodingTag::fixed(FETCHED)), nar_hash: NarHash::from_digest(*sha256) }
    }

    /// Returns whether it is that of a file from elsewhere.
    pub(crate) fn is_fetched(&self) -> bool {
        self.tag.as_str() == FETCHED
    }
}

impl Hash for EntryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Few NARs exist in two encodings, and each request for a narinfo computes this.
        self.nar_hash.hash(state);
    }
}
