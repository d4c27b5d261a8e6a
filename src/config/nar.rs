//! NAR settings whose values are keywords: `nar_source`, `verify` and `nar_cache.precompress`.

use super::keyword::keywords;

/// Source of the bytes of NARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NarSource {
    /// Files of the store, if they are readable and belong to nix-daemon's store; otherwise nix-daemon.
    #[default]
    Auto,
    /// Dumps by nix-daemon.
    Daemon,
    /// Files of the store, if they are readable; otherwise nix-daemon.
    Store,
}

keywords!(NarSource, r#""auto", "daemon" or "store""#, "auto" => Auto, "daemon" => Daemon, "store" => Store);

/// Policy for verifying NARs while they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Verifies each NAR every time.
    Always,
    /// Verifies dumps by nix-daemon every time, and NARs read from the store's files once, until the files change.
    #[default]
    Once,
}

keywords!(Verify, r#""always" or "once""#, "always" => Always, "once" => Once);

/// Which NARs to compress before they are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precompress {
    /// None.
    Off,
    /// NARs whose narinfos were served.
    #[default]
    Requested,
    /// Also NARs of new store paths, while nothing else is being compressed.
    New,
}

keywords!(Precompress, r#""off", "requested" or "new""#, "off" => Off, "requested" => Requested, "new" => New);
