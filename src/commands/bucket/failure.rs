//! Errors of the commands that use the object store.

use crate::bucket::{BucketError, BucketPinNameError, FailureKind, GcError, OpenError, RunId};

/// Reason why a command about the object store fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketFailure {
    /// There is no `[bucket]`.
    #[error("no bucket is configured\n  help: set url in [bucket], or pass the server's configuration with --config")]
    NotConfigured,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
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
}

impl BucketFailure {
    /// Returns the exit status: a code of sysexits.h.
    pub(crate) const fn exit_code(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const UNAVAILABLE: u8 = 69;
        const TEMPORARY: u8 = 75;
        const PROTOCOL: u8 = 76;
        const NO_PERMISSION: u8 = 77;
        const CONFIG: u8 = 78;
        match self {
            Self::NotConfigured | Self::Open(_) => CONFIG,
            Self::PinName(_) => USAGE,
            Self::NoSuchRun(_)
            | Self::NotPutBack(_)
            | Self::NoSuchPin(_)
            | Self::NotPublished(_)
            | Self::Gc(GcError::Object { .. } | GcError::TooMany(..)) => DATA,
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
