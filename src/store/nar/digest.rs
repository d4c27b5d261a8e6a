//! Running length and hash of a NAR.

use harmonia_protocol::hash::NarHash;
use ring::digest;

/// Counts the bytes of a NAR and, if it has to be verified, computes their SHA-256.
pub(crate) struct Digest {
    pub(crate) sha256: Option<digest::Context>,
    size: u64,
}

impl Digest {
    pub(crate) fn new(is_hashed: bool) -> Self {
        Self { sha256: is_hashed.then(|| digest::Context::new(&digest::SHA256)), size: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.size += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> (Option<NarHash>, u64) {
        let hash = self.sha256.map(|sha256| {
            let mut hash = [0; 32];
            hash.copy_from_slice(sha256.finish().as_ref());
            NarHash::from_digest(hash)
        });
        (hash, self.size)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({} bytes)", self.size)
    }
}
