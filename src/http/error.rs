//! From errors to statuses.

use harmonia_protocol::narinfo::NarInfoError;
use hyper::StatusCode;
use tracing::Level;

use crate::nar_cache::FillError;
use crate::store::{Step, StoreError};

/// Why a handler has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
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

impl From<FillError> for HandlerError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Store(error) => Self::Store(error),
            error => Self::Fill(error),
        }
    }
}

/// Which kind of trouble an error is: what the log counts as one event while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No connection to the daemon.
    Unreachable,
    /// The daemon does not serve this user.
    Refused,
    /// The daemon does not answer in time.
    Late,
    /// The daemon has the store of another directory.
    OtherStore,
    /// The daemon answers wrongly, or with an error.
    Daemon,
    /// Something about one path.
    Path,
    /// Files that cannot be read here.
    Files,
}

impl Trouble {
    /// What a stranger may know of it: no path, no address, no word of the system.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Unreachable => "the nix daemon is unreachable",
            Self::Refused => "the nix daemon refuses this user",
            Self::Late => "the nix daemon does not answer in time",
            Self::OtherStore => "the nix daemon has another store directory",
            Self::Daemon | Self::Path => "the nix daemon answers wrongly",
            Self::Files => "a file cannot be read here",
        }
    }
}

impl HandlerError {
    /// The status of the response. None of these errors says that a path is not valid but [`StoreError::NotValid`], so
    /// that clients are to try again, or another cache.
    ///
    /// Trouble with the daemon is 502. Nix from 2.35 on takes a 503 for a limit on requests: it waits for 25 s to 78 s in
    /// all before it goes on to another cache, where five 502 take it a second; earlier releases make no difference. So
    /// 503 is for what passes by waiting: too much at once, an index that is being made, a file.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Store(StoreError::NotValid(_)) => StatusCode::NOT_FOUND,
            Self::Store(StoreError::Late(Step::FreeConnection | Step::FreeNarStream | Step::Compressing)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => match self.trouble().0 {
                Trouble::Files => StatusCode::SERVICE_UNAVAILABLE,
                Trouble::Unreachable
                | Trouble::Refused
                | Trouble::Late
                | Trouble::OtherStore
                | Trouble::Daemon
                | Trouble::Path => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// What kind of trouble it is, and how bad.
    #[must_use]
    pub const fn trouble(&self) -> (Trouble, Level) {
        match self {
            Self::Store(error) => match error {
                StoreError::Unreachable { .. } => (Trouble::Unreachable, Level::ERROR),
                StoreError::Refused { .. } => (Trouble::Refused, Level::ERROR),
                StoreError::Late(_) => (Trouble::Late, Level::WARN),
                StoreError::OtherStoreDirectory { .. } => (Trouble::OtherStore, Level::ERROR),
                StoreError::Client { .. }
                | StoreError::Unsupported(_)
                | StoreError::AnotherPath { .. }
                | StoreError::GivenUp(_) => (Trouble::Daemon, Level::ERROR),
                StoreError::NotIndexed { .. } | StoreError::Changed(_) => (Trouble::Files, Level::WARN),
                StoreError::File { .. } | StoreError::IndexFull { .. } | StoreError::TooManyPaths { .. } => {
                    (Trouble::Files, Level::ERROR)
                }
                StoreError::NotValid(_) => (Trouble::Path, Level::WARN),
                StoreError::UnknownSize(_)
                | StoreError::Malformed { .. }
                | StoreError::Special(_)
                | StoreError::WrongSize { .. }
                | StoreError::NoFiles { .. }
                | StoreError::WrongHash { .. } => (Trouble::Path, Level::ERROR),
            },
            Self::Fill(_) => (Trouble::Files, Level::ERROR),
            Self::NarInfo(_) => (Trouble::Path, Level::ERROR),
        }
    }
}
