//! How NARs are read, and when their bytes are proven, as it is written in the configuration.

use std::str::FromStr;

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

/// A text is not a [`NarSource`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected \"auto\", \"daemon\" or \"store\", found {0:?}")]
pub struct NarSourceError(String);

impl FromStr for NarSource {
    type Err = NarSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "daemon" => Ok(Self::Daemon),
            "store" => Ok(Self::Store),
            _ => Err(NarSourceError(text.to_owned())),
        }
    }
}

/// When a NAR is hashed while it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Each time.
    Always,
    /// Each time that the daemon dumps it; once if it is read from the store's files, while these are seen to be the same.
    #[default]
    Once,
}

/// A text is not a [`Verify`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected \"always\" or \"once\", found {0:?}")]
pub struct VerifyError(String);

impl FromStr for Verify {
    type Err = VerifyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "once" => Ok(Self::Once),
            _ => Err(VerifyError(text.to_owned())),
        }
    }
}
