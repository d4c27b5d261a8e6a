//! From errors to reasons, which have a status each.

use harmonia_protocol::narinfo::NarInfoError;
use hyper::StatusCode;
use tracing::Level;

use super::reason::{NotFound, Reason};
use crate::nar_cache::FillError;
use crate::store::{Deadline, StoreError};

/// Why a handler has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// There is nothing to answer with.
    #[error("{}", .0.explanation())]
    NotFound(NotFound),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no compressed form.
    #[error(transparent)]
    Fill(FillError),
    /// A narinfo that would not be one.
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
    /// The status of the response. None of these errors says that a path is not valid but [`Self::NotFound`] and
    /// [`StoreError::NotValid`], so that clients are to try again, or another cache.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.reason().status()
    }

    /// The reason, which is what the log counts as one event while it lasts.
    #[must_use]
    pub const fn reason(&self) -> Reason {
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
                    Deadline::Connect | Deadline::Daemon(_) | Deadline::NarBytes | Deadline::Readiness,
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
            Self::Fill(_) => Reason::NarCacheError,
            Self::NarInfo(_) => Reason::BrokenPath,
        }
    }

    /// The severity in the log.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self.reason() {
            Reason::NotFound(_)
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
            | Reason::NarCacheError => Level::ERROR,
        }
    }
}
