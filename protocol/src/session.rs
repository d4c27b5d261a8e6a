//! The agreement between client and nix-daemon that a handshake ends in.

use std::sync::Arc;

use crate::signature_set::KnownKeys;
use crate::store_path::StoreDir;
use crate::version::{Feature, Version};

/// Result of a [`Handshake`](crate::handshake::Handshake), which decides how messages are encoded.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Logical store directory. It is configured; the protocol does not transmit it.
    pub store: StoreDir,
    /// Lower of the two protocol versions that client and nix-daemon speak.
    pub version: Version,
    /// Release of nix-daemon in its own words, e.g. `2.34.8`; protocol 1.33 and later. Printable, at most about 64 bytes.
    pub release: Option<String>,
    /// Whether nix-daemon trusts this client, if it tells; protocol 1.35 and later.
    pub trusted: Option<bool>,
    pub(crate) features: Vec<Feature>,
    pub(crate) known_keys: Arc<KnownKeys>,
}

impl Session {
    /// Returns the names of keys whose signatures take precedence where there are too many.
    #[must_use]
    pub fn known_keys(&self) -> &KnownKeys {
        &self.known_keys
    }

    /// Replaces the names of keys whose signatures take precedence, for replies that are decoded later.
    pub(crate) fn set_known_keys(&mut self, keys: Arc<KnownKeys>) {
        self.known_keys = keys;
    }

    /// Returns whether client and nix-daemon both named the feature.
    #[must_use]
    pub fn has_feature(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Returns whether nix-daemon is Lix `2.minor` or later. Lix stays at protocol 1.35, and its releases begin with 2.90.
    #[must_use]
    pub(crate) fn is_lix_since(&self, minor: u32) -> bool {
        let mut numbers =
            self.release.iter().flat_map(|text| text.split(['.', '-'])).map_while(|n| n.parse::<u32>().ok());
        let of_lix = |found: &u32| *found >= minor.max(90);
        self.version == Version::TRUST && numbers.next() == Some(2) && numbers.next().as_ref().is_some_and(of_lix)
    }
}
