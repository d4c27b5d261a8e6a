//! Names of uploaded files: whom a file belongs to, and its hash.

use std::fmt;

use data_encoding::HEXLOWER;
use harmonia_protocol::hash::NarHash;
use ring::digest;

/// SHA-256 of an uploaded file, which is its name in URLs (`nar/<hash>.nar.xz`) and in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileHash(NarHash);

impl FileHash {
    /// Parses exactly 52 nix32 characters.
    #[must_use]
    pub(super) fn from_nix32(text: &str) -> Option<Self> {
        NarHash::from_nix32(text).map(Self)
    }

    /// Creates a hash from a digest.
    #[must_use]
    pub(crate) const fn from_digest(digest: [u8; 32]) -> Self {
        Self(NarHash::from_digest(digest))
    }

    /// Returns 52 nix32 characters.
    #[must_use]
    pub(super) fn to_nix32(self) -> String {
        self.0.to_nix32()
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of whoever uploads: a hash of the name of a principal, since a name may have any characters and any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner([u8; Self::LEN]);

impl Owner {
    const LEN: usize = 16;
    /// Length of [`Owner::to_hex`], in characters.
    pub(super) const HEX_LEN: usize = 2 * Self::LEN;

    /// Returns the owner with this name.
    #[must_use]
    pub(crate) fn named(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let mut owner = [0; Self::LEN];
        owner.copy_from_slice(&digest.as_ref()[..Self::LEN]);
        Self(owner)
    }

    /// Returns a number for fair sharing.
    #[must_use]
    pub(crate) fn number(self) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(number)
    }

    /// Returns 32 hex digits.
    pub(super) fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// Owner and hash of a file: its name in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) owner: Owner,
    pub(super) hash: FileHash,
}
