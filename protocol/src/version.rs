//! Protocol versions, the releases behind them, and features.
//!
//! Owns which daemons are spoken to: major version 1, minor 21 (Nix 2.1 to 2.3) up to any below 64. What each minor
//! changed is decided where it matters, by comparing a [`Version`] with the constants here.
//! (Nix `src/libstore/worker-protocol.hh`; release table checked against 2.0 to 2.36-dev.)

use std::fmt;

/// A protocol version of major 1. Orders by minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    minor: u8,
}

impl Version {
    /// Nix 2.1 to 2.3: the oldest that is spoken to.
    pub const OLDEST: Self = Self::from_minor(21);
    /// QueryDerivationOutputMap exists.
    pub const DERIVATION_OUTPUT_MAP: Self = Self::from_minor(22);
    /// AddToStoreNar sends its NAR in frames; before, the daemon pulls it.
    pub const FRAMED_UPLOAD: Self = Self::from_minor(23);
    /// Errors carry a level, a name and traces.
    pub const STRUCTURED_ERRORS: Self = Self::from_minor(26);
    /// QueryValidPaths has a `substitute` flag, and QueryRealisation exists.
    pub const REALISATIONS: Self = Self::from_minor(27);
    /// Realisations are JSON.
    pub const JSON_REALISATIONS: Self = Self::from_minor(31);
    /// AddMultipleToStore exists.
    pub const ADD_MULTIPLE: Self = Self::from_minor(32);
    /// The daemon tells its release.
    pub const DAEMON_RELEASE: Self = Self::from_minor(33);
    /// The daemon tells whether it trusts the client.
    pub const TRUST: Self = Self::from_minor(35);
    /// Both sides exchange feature sets. The newest that a release speaks: later behaviour comes as features, and
    /// 1.39 was never released.
    pub const NEWEST: Self = Self::from_minor(38);
    /// guix-daemon says 1.99; nothing from here on is Nix's.
    const FIRST_FOREIGN_MINOR: u8 = 64;

    /// Version `1.minor`.
    #[must_use]
    pub const fn from_minor(minor: u8) -> Self {
        Self { minor }
    }

    /// The wire form, `major << 8 | minor`.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        (1 << 8) | self.minor as u64
    }

    /// Reads what a daemon says its version is, and refuses those that this client cannot talk to.
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

/// A peer whose version cannot be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedVersion {
    /// A Nix older than 2.1.
    #[error(
        "the nix daemon speaks protocol 1.{0}, older than 1.21\n  help: upgrade nix on this machine to 2.1 or later"
    )]
    TooOld(u8),
    /// A minor version that only guix-daemon uses.
    #[error(
        "the daemon speaks protocol 1.{0}, which is guix-daemon's\n  help: point daemon_socket at a nix daemon; guix stores are not supported"
    )]
    Guix(u8),
    /// Another major version.
    #[error("the daemon speaks an unknown protocol version {0:#x}\n  help: is this the socket of a nix daemon?")]
    Foreign(u64),
}

/// A protocol extension that both sides must name before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Realisations are named by derivation path and output name (Nix 2.35 and later).
    RealisationWithPathNotHash,
}

impl Feature {
    /// Every feature that this client decodes, and therefore the only ones that it offers: a negotiated feature
    /// changes layouts silently.
    pub const SUPPORTED: [Self; 1] = [Self::RealisationWithPathNotHash];

    /// The feature's name on the wire.
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
    fn only_nix_daemons_of_known_versions_are_taken() {
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
