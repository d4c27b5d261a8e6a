//! Errors of handlers, and the reason and severity of each.

use harmonia_protocol::narinfo::NarInfoError;
use tracing::Level;

use crate::bucket::Unreachable;
use crate::http::error_reason::{NotFound, Reason};
use crate::nar_cache::FillError;
use crate::store::{Deadline, StoreError};

/// Error of a handler.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandlerError {
    /// There is nothing under this URL.
    #[error("{}", .0.explanation())]
    NotFound(NotFound),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The NAR cannot be compressed.
    #[error(transparent)]
    Fill(FillError),
    /// The request would have to be recorded in the audit log, which cannot be written.
    #[error("the audit log cannot be written, and audit.on_failure is \"refuse\"")]
    AuditLog,
    /// Another host may have published the path, and the bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] Unreachable),
    /// The path info makes no valid narinfo.
    #[error("cannot render a narinfo: {0}")]
    NarInfo(#[from] NarInfoError),
}

impl From<NotFound> for HandlerError {
    fn from(why: NotFound) -> Self {
        Self::NotFound(why)
    }
}

impl From<FillError> for HandlerError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Store(error) => Self::Store(error),
            error => Self::Fill(error),
        }
    }
}

impl HandlerError {
    /// Returns the reason, which determines the status, and by which the log throttles repeated errors. It is one of a 404
    /// only for [`Self::NotFound`] and [`StoreError::NotValid`]; after any other one clients retry, or try another cache.
    #[must_use]
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::NotFound(why) => Reason::NotFound(*why),
            Self::Store(error) => match error {
                StoreError::NotValid(_) => Reason::NotFound(NotFound::NotValid),
                StoreError::Unreachable { .. } => Reason::DaemonUnreachable,
                StoreError::Refused { .. } => Reason::DaemonRefuses,
                StoreError::Timeout(Deadline::FreeConnection | Deadline::FreeNarStream | Deadline::Compressing) => {
                    Reason::Overloaded
                }
                StoreError::Timeout(
                    Deadline::Connect
                    | Deadline::Daemon(_)
                    | Deadline::NarBytes
                    | Deadline::StoreAdd
                    | Deadline::Readiness,
                ) => Reason::DaemonTimeout,
                StoreError::StoreDirMismatch { .. } => Reason::StoreDirMismatch,
                StoreError::Client { .. }
                | StoreError::Unsupported(_)
                | StoreError::WrongPath { .. }
                | StoreError::Abandoned(_) => Reason::DaemonError,
                StoreError::IndexNotReady { .. } => Reason::IndexNotReady,
                StoreError::IndexFull { .. } | StoreError::TooManyPaths { .. } => Reason::IndexFull,
                StoreError::Changed(_) => Reason::PathChanged,
                StoreError::File { .. } => Reason::FileError,
                StoreError::UnknownSize(_)
                | StoreError::Malformed { .. }
                | StoreError::UnsupportedFileType(_)
                | StoreError::WrongSize { .. }
                | StoreError::NoFiles { .. }
                | StoreError::WrongHash { .. } => Reason::BrokenPath,
            },
            Self::Bucket(_) | Self::Fill(FillError::Fetch(_)) => Reason::BucketUnreachable,
            Self::Fill(_) => Reason::NarCacheError,
            Self::AuditLog => Reason::AuditLogError,
            Self::NarInfo(_) => Reason::BrokenPath,
        }
    }

    /// Returns the severity in the log.
    #[must_use]
    pub(crate) const fn level(&self) -> Level {
        match self.reason() {
            Reason::NotFound(_)
            | Reason::BucketUnreachable
            | Reason::DaemonTimeout
            | Reason::Overloaded
            | Reason::IndexNotReady
            | Reason::PathChanged => Level::WARN,
            Reason::DaemonUnreachable
            | Reason::DaemonRefuses
            | Reason::StoreDirMismatch
            | Reason::DaemonError
            | Reason::BrokenPath
            | Reason::IndexFull
            | Reason::FileError
            | Reason::NarCacheError
            | Reason::AuditLogError => Level::ERROR,
        }
    }
}
