//! From errors to statuses.

use harmonia_protocol::narinfo::NarInfoError;
use tracing::Level;

use crate::nar_cache::FillError;
use crate::store::StoreError;

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
    /// Every one of these is answered 503, since none says that a path is not valid, but for
    /// [`StoreError::NotValid`]; they differ in the log.
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
                | StoreError::WrongHash { .. } => (Trouble::Path, Level::ERROR),
            },
            Self::Fill(_) => (Trouble::Files, Level::ERROR),
            Self::NarInfo(_) => (Trouble::Path, Level::ERROR),
        }
    }
}
