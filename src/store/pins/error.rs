//! Reasons why a path cannot be pinned or unpinned.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;
use crate::store::pins::name::{PinName, PinNameError};
use crate::store::pins::pin::{MAX_PATHS, MAX_PINS};

/// Reason why a path cannot be pinned or unpinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// No state directory is configured.
    #[error("pins need a directory that survives restarts\n  help: set state_dir, and restart the server")]
    NoStateDirectory,
    /// The name is malformed.
    #[error(transparent)]
    Name(#[from] PinNameError),
    /// No pin has this name.
    #[error("there is no pin {0}\n  help: harmonia pins lists them")]
    NoSuchPin(PinName),
    /// A text is not the base name of a store path.
    #[error("{0:?} is not the base name of a store path")]
    NoStorePath(String),
    /// A path is not valid.
    #[error("{0} is not valid, so it cannot be pinned\n  help: build it or copy it to this store first")]
    NotValid(String),
    /// There are too many pins, or none or too many paths in one.
    #[error("a server has up to {MAX_PINS} pins of 1 to {MAX_PATHS} paths each")]
    TooMany,
    /// nix-daemon does not see the links.
    #[error(
        "nix-daemon does not see {} as a root of its garbage collector\n  help: set state_dir to a directory that nix-daemon sees by the same \
         path: on its machine, and in its mount namespace",
        .0.display()
    )]
    Invisible(PathBuf),
    /// nix-daemon cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state directory cannot be read or changed.
    #[error("cannot change the pins in {}: {cause}\n  help: make the directory writable for the server's user", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
}

impl PinError {
    /// Creates [`Self::Directory`].
    pub(crate) fn directory(path: &Path, cause: io::Error) -> Self {
        Self::Directory { path: path.to_owned(), cause }
    }
}
