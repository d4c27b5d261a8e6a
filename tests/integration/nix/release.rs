//! Nix releases that the tests run, and the directories where `tests/nix-releases` unpacked them.

use std::env;
use std::fmt;
use std::path::PathBuf;

/// Release of Nix, named by its series: the suites get new patch releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Worker protocol 1.21: no structured errors, no framed transfers.
    Nix2_3,
    /// Worker protocol 1.34.
    Nix2_8,
    /// Worker protocol 1.38 with negotiated features.
    Nix2_26,
    /// Newest release in Debian.
    Nix2_34,
}

impl Release {
    /// All releases, oldest first; the position is the discriminant.
    pub(crate) const ALL: [Self; 4] = [Self::Nix2_3, Self::Nix2_8, Self::Nix2_26, Self::Nix2_34];

    /// Returns the series, the beginning of a version: `2.26`.
    pub(crate) fn series(self) -> &'static str {
        match self {
            Self::Nix2_3 => "2.3",
            Self::Nix2_8 => "2.8",
            Self::Nix2_26 => "2.26",
            Self::Nix2_34 => "2.34",
        }
    }

    /// Returns the Debian suite that it is packaged in.
    pub(crate) fn suite(self) -> &'static str {
        match self {
            Self::Nix2_3 => "bullseye",
            Self::Nix2_8 => "bookworm",
            Self::Nix2_26 => "trixie",
            Self::Nix2_34 => "sid",
        }
    }

    /// Returns the root directory of the suite.
    ///
    /// Panics if it was not downloaded: a skipped test proves nothing.
    pub(crate) fn root(self) -> PathBuf {
        let root = releases().join(self.suite());
        assert!(root.is_dir(), "{self} is not at {}\n  help: run: tests/nix-releases get", root.display());
        root
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nix {}", self.series())
    }
}

/// Returns the directory of all releases, chosen as `tests/nix-releases` does.
pub(crate) fn releases() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NIX_RELEASES_DIR").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .expect("neither NIX_RELEASES_DIR, XDG_CACHE_HOME nor HOME is set")
            .join("harmonia-nix-releases")
    })
}
