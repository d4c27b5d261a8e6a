//! Versions of the worker protocol, the releases that speak them, and optional features.
//!
//! Supported are major version 1 with minor versions from 21 (Nix 2.1 to 2.3) to 63. Code that depends on a version
//! compares it with the constants of [`Version`].
//!
//! Source: Nix `src/libstore/worker-protocol.hh`, releases 2.0 to 2.36-dev.

use std::fmt;

/// A protocol version with major number 1. Ordered by minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    minor: u8,
}

impl Version {
    /// Oldest supported version: Nix 2.1 to 2.3.
    pub const OLDEST: Self = Self::from_minor(21);
    /// First version with QueryDerivationOutputMap.
    pub const DERIVATION_OUTPUT_MAP: Self = Self::from_minor(22);
    /// First version in which AddToStoreNar sends its NAR in frames. Before, nix-daemon asks for pieces of it.
    pub const FRAMED_UPLOAD: Self = Self::from_minor(23);
    /// First version in which errors have a level, a name and traces.
    pub const STRUCTURED_ERRORS: Self = Self::from_minor(26);
    /// First version with QueryRealisation, and with a `substitute` flag in QueryValidPaths.
    pub const REALISATIONS: Self = Self::from_minor(27);
    /// First version in which realisations are JSON.
    pub const JSON_REALISATIONS: Self = Self::from_minor(31);
    /// First version with AddMultipleToStore.
    pub const ADD_MULTIPLE: Self = Self::from_minor(32);
    /// First version in which nix-daemon sends its release.
    pub const DAEMON_RELEASE: Self = Self::from_minor(33);
    /// First version in which nix-daemon tells whether it trusts the client.
    pub const TRUST: Self = Self::from_minor(35);
    /// Newest released version, the first in which both sides exchange features. Later changes are features; 1.39 was
    /// never released.
    pub const NEWEST: Self = Self::from_minor(38);
    /// First minor version that is not Nix's: guix-daemon claims 1.99.
    const FIRST_FOREIGN_MINOR: u8 = 64;

    /// Creates version `1.minor`.
    #[must_use]
    pub const fn from_minor(minor: u8) -> Self {
        Self { minor }
    }

    /// Returns the encoded version, `major << 8 | minor`.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        (1 << 8) | self.minor as u64
    }

    /// Decodes the version that nix-daemon claims. Fails if it is not supported.
    pub const fn from_daemon(wire: u64) -> Result<Self, UnsupportedVersion> {
        #[allow(clippy::cast_possible_truncation)] // the low byte is the minor version
        let minor = (wire & 0xff) as u8;
        if wire >> 8 != 1 {
            Err(UnsupportedVersion::Foreign(wire))
        } else if minor >= Self::FIRST_FOREIGN_MINOR {
            Err(UnsupportedVersion::Guix(minor))
        } else if minor < Self::OLDEST.minor {
            Err(UnsupportedVersion::TooOld(minor))
        } else {
            Ok(Self { minor })
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// Error of a peer whose protocol version is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedVersion {
    /// A minor version below 21: Nix before 2.1.
    #[error("nix-daemon speaks protocol 1.{0}, older than 1.21\n  help: upgrade Nix on this machine to 2.1 or later")]
    TooOld(u8),
    /// A minor version of 64 or above, as of guix-daemon.
    #[error(
        "the daemon speaks protocol 1.{0}, as only guix-daemon does\n  help: connect to nix-daemon; Guix stores are not supported"
    )]
    Guix(u8),
    /// Another major version. Holds the encoded version.
    #[error("the daemon speaks unknown protocol version {0:#x}\n  help: check that this is the socket of nix-daemon")]
    Foreign(u64),
}

/// An optional part of the protocol, which is used if both sides name it in the handshake.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Realisations are looked up by derivation path and output name (Nix 2.35 and later).
    RealisationWithPathNotHash,
}

impl Feature {
    /// Features that this crate implements. Only these may be offered, since a feature that both sides name changes how
    /// messages are encoded.
    pub const SUPPORTED: &[Self] = &[Self::RealisationWithPathNotHash];

    /// Returns the name that is sent.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RealisationWithPathNotHash => "realisation-with-path-not-hash",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_supported_versions_of_nix_are_accepted() {
        assert_eq!(Version::from_daemon(0x115), Ok(Version::OLDEST));
        assert_eq!(Version::from_daemon(0x126), Ok(Version::NEWEST));
        assert_eq!(Version::from_daemon(0x127).map(|v| v.to_string()), Ok("1.39".into()));
        assert_eq!(Version::from_daemon(0x114), Err(UnsupportedVersion::TooOld(20)));
        assert_eq!(Version::from_daemon(0x163), Err(UnsupportedVersion::Guix(99)));
        assert_eq!(Version::from_daemon(0x140), Err(UnsupportedVersion::Guix(64)));
        assert_eq!(Version::from_daemon(0x226), Err(UnsupportedVersion::Foreign(0x226)));
        assert_eq!(Version::from_daemon(0x1_0000_0126), Err(UnsupportedVersion::Foreign(0x1_0000_0126)));
        assert_eq!(Version::NEWEST.to_wire(), 0x126);
    }
}
