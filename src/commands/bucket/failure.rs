//! Errors of the commands that use the object store.

use crate::bucket::{BucketError, FailureKind, OpenError};

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
}

impl BucketFailure {
    /// Returns the exit status: a code of sysexits.h.
    pub(crate) const fn exit_code(&self) -> u8 {
        const UNAVAILABLE: u8 = 69;
        const PROTOCOL: u8 = 76;
        const NO_PERMISSION: u8 = 77;
        const CONFIG: u8 = 78;
        match self {
            Self::NotConfigured | Self::Open(_) => CONFIG,
            Self::Request(error) => match error.kind {
                FailureKind::Denied => NO_PERMISSION,
                FailureKind::SlowDown | FailureKind::Unavailable => UNAVAILABLE,
                FailureKind::NotFound | FailureKind::Exists | FailureKind::Unsupported | FailureKind::Other => PROTOCOL,
            },
        }
    }
}
