//! NAR settings whose values are keywords: `nar_source`, `verify` and `nar_cache.precompress`.

use super::keyword::keywords;

/// Where the bytes of NARs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NarSource {
    /// The store's files, where they can be read and are those of the daemon's store, else the daemon.
    #[default]
    Auto,
    /// The daemon's dump.
    Daemon,
    /// The store's files, where they can be read, else the daemon.
    Store,
}

keywords!(NarSource, r#""auto", "daemon" or "store""#, "auto" => Auto, "daemon" => Daemon, "store" => Store);

/// When a NAR is hashed while it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Each time.
    Always,
    /// Each time that the daemon dumps it; once if it is read from the store's files, while these are seen to be the same.
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
