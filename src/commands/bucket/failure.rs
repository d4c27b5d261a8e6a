//! Errors of the commands that use the object store.

use std::io;
use std::path::PathBuf;

use harmonia_protocol::StoreDir;

use crate::bucket::{BucketError, BucketPinNameError, FailureKind, GcError, OpenError, OtherStoreDir, RunId};

/// Reason why a command about the object store fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketFailure {
    /// There is no `[bucket]`.
    #[error("no bucket is configured\n  help: set url in [bucket], or pass the server's configuration with --config")]
    NotConfigured,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Number of faults that `bucket verify` found, and printed.
    #[error(
        "the bucket has {0} faults\n  help: delete the objects that are named, and publish the paths again from a host that has them"
    )]
    Faulty(usize),
    /// No key says which narinfos may be mirrored.
    #[error(
        "there is no key to check narinfos with\n  help: pass --trusted-public-key with a key of the other cache, or set bucket.trusted_public_keys"
    )]
    NoKeys,
    /// The file with store paths cannot be read.
    #[error("cannot read store paths from {}: {cause}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The place to mirror from is no binary cache.
    #[error("there is no binary cache to mirror: it has no nix-cache-info\n  help: check the URL of --from")]
    NoCache,
    /// A cache is of another store directory.
    #[error(
        "a cache of {found} is of no use in {expected}\n  help: set virtual_nix_store if that is the store directory of the clients"
    )]
    OtherStore {
        /// Its store directory.
        found: OtherStoreDir,
        /// Ours.
        expected: StoreDir,
    },
    /// Files cannot be kept on this machine.
    #[error(
        "cannot keep a NAR in the directory for temporary files: {0}\n  help: set TMPDIR to a directory with more space"
    )]
    Spool(io::Error),
    /// Number of paths that were not mirrored, and printed.
    #[error("{0} paths were not mirrored, nor what refers to them")]
    Incomplete(usize),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] BucketError),
    /// A garbage collection stopped.
    #[error(transparent)]
    Gc(#[from] GcError),
    /// Nothing is kept of a garbage collection.
    #[error("there is no garbage collection {0} to undo")]
    NoSuchRun(RunId),
    /// Narinfos that were deleted and cannot be put back.
    #[error("{0} of the paths cannot be put back: a NAR or a reference is gone")]
    NotPutBack(usize),
    /// No name of a pin.
    #[error(transparent)]
    PinName(#[from] BucketPinNameError),
    /// There is no such pin.
    #[error("there is no pin {0}\n  help: list them with harmonia bucket pins")]
    NoSuchPin(String),
    /// A path that was pinned is not there.
    #[error("{0} is pinned, but not in the bucket\n  help: publish it")]
    NotPublished(String),
    /// Paths are not published, for reasons that were logged.
    #[error("{0} of the paths are not in the bucket")]
    Refused(usize),
}

impl BucketFailure {
    /// Returns the exit status: a code of sysexits.h.
    pub(crate) const fn exit_code(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const UNAVAILABLE: u8 = 69;
        const OS_ERROR: u8 = 71;
        const TEMPORARY: u8 = 75;
        const PROTOCOL: u8 = 76;
        const NO_PERMISSION: u8 = 77;
        const CONFIG: u8 = 78;
        match self {
            Self::NotConfigured | Self::Open(_) => CONFIG,
            Self::NoKeys | Self::PinName(_) => USAGE,
            Self::Faulty(_)
            | Self::Incomplete(_)
            | Self::NoCache
            | Self::OtherStore { .. }
            | Self::NoSuchRun(_)
            | Self::NotPutBack(_)
            | Self::NoSuchPin(_)
            | Self::NotPublished(_)
            | Self::Refused(_)
            | Self::Gc(GcError::Object { .. } | GcError::TooMany(..)) => DATA,
            Self::Roots { .. } | Self::Spool(_) => OS_ERROR,
            Self::Gc(GcError::Busy(..) | GcError::Lost(_) | GcError::Unfinished(_)) => TEMPORARY,
            Self::Gc(GcError::Listing(_) | GcError::System(_)) => UNAVAILABLE,
            Self::Gc(GcError::Bucket(error)) | Self::Request(error) => match error.kind {
                FailureKind::Denied => NO_PERMISSION,
                FailureKind::SlowDown | FailureKind::Unavailable => UNAVAILABLE,
                FailureKind::NotFound | FailureKind::Exists | FailureKind::Unsupported | FailureKind::Other => PROTOCOL,
            },
        }
    }
}
