//! Errors that end the program, and their exit statuses.

use crate::access::AccessError;
use crate::access::users::{MAX_PASSWORD, MIN_PASSWORD, PasswordError, UserNameError, UsersError};
use crate::access_log::AccessLogError;
use crate::admin::ClientError;
use crate::audit_log::AuditLogError;
use crate::bucket;
use crate::config::ConfigErrors;
use crate::nar_cache::{DirectoryError, WarmError};
use crate::net::tls::TlsError;
use crate::net::{BindError, SocketActivationError};
use crate::push::spool::SpoolDirectoryError;
use crate::signing::SigningKeyError;
use crate::store::{HiddenError, StoreError};

/// Error that ends the program. Its message has a help line if the user can do something about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A signing key cannot be used.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket passed by the service manager cannot be used.
    #[error(transparent)]
    Inherit(#[from] SocketActivationError),
    /// A file that says who may do what cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    AuditLog(#[from] AuditLogError),
    /// The spool of uploads cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolDirectoryError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] bucket::OpenError),
    /// A query of the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hidden paths cannot be read.
    #[error(transparent)]
    Hidden(#[from] HiddenError),
    /// `quickstart` has no directory for its signing key.
    #[error("no directory for the signing key: {0}\n  help: set HOME, or name a key with sign_key_paths")]
    NoStateDirectory(String),
    /// `check` found problems that prevent serving, and printed them.
    #[error("harmonia would not serve")]
    WouldNotServe {
        /// The exit status of the first problem.
        code: u8,
    },
    /// The certificate has expired.
    #[error("the certificate {} expired {days} days ago\n  help: renew it; clients refuse it", path.display())]
    CertificateEnded {
        /// The certificate file.
        path: std::path::PathBuf,
        /// Days since it expired.
        days: i64,
    },
    /// `check --unit` was not run by root.
    #[error("only root can check a service as its user\n  help: sudo harmonia check --unit harmonia")]
    NotRoot,
    /// systemd has no such service.
    #[error(
        "systemd has no service {0} that starts a program\n  help: systemctl list-units --all 'harmonia*' lists the services there are"
    )]
    NoUnit(String),
    /// A socket unit is not listening.
    #[error(
        "{unit} is not listening ({state}), so connections are refused\n  help: fix other problems first, then systemctl restart {unit}"
    )]
    SocketDown {
        /// The socket unit.
        unit: String,
        /// State of the unit and its cause.
        state: String,
    },
    /// A file that systemd has to pass to the service cannot be read.
    #[error(
        "cannot read {}, the credential {id} of the service: {cause}\n  help: create it, or correct LoadCredential= in the unit", path.display()
    )]
    Credential {
        /// Name of the credential.
        id: &'static str,
        /// Path of the file.
        path: std::path::PathBuf,
        /// Error of the operating system.
        cause: std::io::Error,
    },
    /// systemd cannot execute the program of the unit.
    #[error("systemd cannot start the program of {unit}: {}\n  help: systemctl cat {unit} shows the unit with its drop-ins, systemd.exec(5) what the status means", .code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit status {code}")))]
    UnitCannotStart {
        /// The unit.
        unit: String,
        /// Exit status, see systemd.exec(5); `None` if the process was killed.
        code: Option<i32>,
    },
    /// The NAR cache has no directory.
    #[error(
        "no NAR cache directory is configured\n  help: set nar_cache.dir or CACHE_DIRECTORY, or pass the server's configuration with --config"
    )]
    NoNarCache,
    /// The NAR cache directory cannot or must not be used.
    #[error(transparent)]
    NarCacheDirectory(#[from] DirectoryError),
    /// The NAR cache directory cannot be read or changed.
    #[error("cannot maintain the NAR cache in {}: {cause}", dir.display())]
    NarCache {
        /// The directory.
        dir: std::path::PathBuf,
        /// Error of the operating system.
        cause: std::io::Error,
    },
    /// Number of corrupt NARs that `cache verify` removed.
    #[error("removed {0} corrupt NARs from the NAR cache")]
    CorruptNars(usize),
    /// An argument is not a store path.
    #[error("{} is neither a store path nor a link to one\n  help: pass a path such as /nix/store/HASH-NAME, or the result link of a build", .0.display())]
    NoStorePath(std::path::PathBuf),
    /// Compressing or removing NARs failed.
    #[error(transparent)]
    ByHand(#[from] WarmError),
    /// A running server uses the directory, and does not respond.
    #[error("{} is in use by another harmonia process, which does not respond: {why}", dir.display())]
    InUse {
        /// The directory.
        dir: std::path::PathBuf,
        /// Error of the admin client.
        why: ClientError,
    },
    /// The queue of the server is full.
    #[error(
        "the server already has {waiting} paths to compress and did not queue {left} of these\n  help: try again later, or \
         wait for completion without --background"
    )]
    QueueFull {
        /// Number of paths that were not queued: the last ones.
        left: usize,
        /// Number of paths in the queue.
        waiting: usize,
    },
    /// A request to the running server failed.
    #[error(transparent)]
    Admin(#[from] ClientError),
    /// The server runs, but nix-daemon does not respond.
    #[error("the server is running, but nix-daemon does not respond")]
    DaemonAway,
    /// The users file cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// No users file is known.
    #[error(
        "no users file is configured\n  help: set users_file in [access], pass the server's configuration with --config, or name the file with --file"
    )]
    NoUsersFile,
    /// There is no user of this name.
    #[error("{} has no user \"{name}\"\n  help: `harmonia user list` prints the names", file.display())]
    NoUser {
        /// The name.
        name: String,
        /// The users file.
        file: std::path::PathBuf,
    },
    /// A name that no user can have.
    #[error(
        "{name:?} cannot be a user: {cause}\n  help: choose a name of visible ASCII characters without \":\" and \"*\""
    )]
    UserName {
        /// The name.
        name: String,
        /// Reason.
        cause: UserNameError,
    },
    /// A password that cannot be set.
    #[error("{0}\n  help: choose one of {MIN_PASSWORD} to {MAX_PASSWORD} bytes, e.g. `openssl rand -base64 24`")]
    Password(PasswordError),
    /// The two passwords that were typed differ.
    #[error("the two passwords differ, so nothing was changed\n  help: try again")]
    PasswordsDiffer,
    /// No password was typed or read.
    #[error(
        "no password was given, so nothing was changed\n  help: type it on a terminal, or pass it as one line on standard input"
    )]
    NoPassword,
    /// The password is not UTF-8.
    #[error("the password is not UTF-8, so nothing was changed\n  help: use letters, digits and punctuation of ASCII")]
    PasswordNotText,
    /// A command about the object store failed.
    #[cfg(feature = "bucket")]
    #[error(transparent)]
    BucketCommand(#[from] crate::commands::bucket::failure::BucketFailure),
    /// The combination of arguments is not supported.
    #[error("{0}")]
    Usage(&'static str),
    /// An operation of the operating system failed.
    #[error("cannot {doing}: {cause}")]
    System {
        /// Operation that failed, as in "cannot …".
        doing: &'static str,
        /// Error of the operating system.
        cause: std::io::Error,
    },
}

impl Error {
    /// Returns each error that this one consists of, to be logged on its own.
    #[must_use]
    pub(crate) fn each(&self) -> Vec<&dyn std::fmt::Display> {
        match self {
            Self::Config(errors) => errors.iter().map(|error| error as _).collect(),
            error => vec![error],
        }
    }

    /// Returns the exit status: a code of sysexits.h, for units and scripts.
    #[must_use]
    pub(crate) const fn exit_code(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const UNAVAILABLE: u8 = 69;
        const OS_ERROR: u8 = 71;
        const CANNOT_CREATE: u8 = 73;
        const TEMPORARY: u8 = 75;
        const PROTOCOL: u8 = 76;
        const NO_PERMISSION: u8 = 77;
        const CONFIG: u8 = 78;
        match self {
            Self::WouldNotServe { code } => *code,
            #[cfg(feature = "bucket")]
            Self::BucketCommand(error) => error.exit_code(),
            Self::DaemonAway => TEMPORARY,
            Self::Usage(_) => USAGE,
            Self::CorruptNars(_)
            | Self::Hidden(_)
            | Self::NoStorePath(_)
            | Self::ByHand(WarmError::NotValid(_))
            | Self::NoUser { .. }
            | Self::UserName { .. }
            | Self::Password(_)
            | Self::PasswordsDiffer
            | Self::NoPassword
            | Self::PasswordNotText => DATA,
            Self::NoStateDirectory(_) | Self::Users(UsersError::Write { .. }) => CANNOT_CREATE,
            Self::Config(_)
            | Self::SigningKey(_)
            | Self::Tls(_)
            | Self::Access(_)
            | Self::AccessLog(_)
            | Self::AuditLog(_)
            | Self::Bucket(_)
            | Self::Inherit(_)
            | Self::NoNarCache
            | Self::Users(_)
            | Self::NoUsersFile
            | Self::CertificateEnded { .. }
            | Self::Credential { .. }
            | Self::UnitCannotStart { .. } => CONFIG,
            Self::NotRoot => NO_PERMISSION,
            Self::Spool(error) if error.is_refusal() => CONFIG,
            Self::NarCacheDirectory(error) if error.is_refusal() => CONFIG,
            Self::System { .. } | Self::Spool(_) | Self::NarCache { .. } | Self::NarCacheDirectory(_) => OS_ERROR,
            Self::Admin(error) | Self::InUse { why: error, .. } => match error {
                ClientError::NotAllowed { .. } => NO_PERMISSION,
                ClientError::Refused { status, .. } if status.as_u16() < 500 => DATA,
                ClientError::NoServer { .. } | ClientError::Refused { .. } => UNAVAILABLE,
                ClientError::Failed { .. } => PROTOCOL,
            },
            Self::Store(error) | Self::ByHand(WarmError::Store(error)) => match error {
                StoreError::Unreachable { .. } | StoreError::Timeout(_) | StoreError::IndexNotReady { .. } => {
                    UNAVAILABLE
                }
                StoreError::Refused { .. } => NO_PERMISSION,
                StoreError::File { .. }
                | StoreError::Changed(_)
                | StoreError::IndexFull { .. }
                | StoreError::TooManyPaths { .. } => OS_ERROR,
                StoreError::Client { .. }
                | StoreError::Unsupported(_)
                | StoreError::StoreDirMismatch { .. }
                | StoreError::WrongPath { .. }
                | StoreError::Abandoned(_)
                | StoreError::NotValid(_)
                | StoreError::UnknownSize(_)
                | StoreError::Malformed { .. }
                | StoreError::UnsupportedFileType(_)
                | StoreError::WrongSize { .. }
                | StoreError::NoFiles { .. }
                | StoreError::WrongHash { .. } => PROTOCOL,
            },
            Self::NoUnit(_) | Self::SocketDown { .. } | Self::Bind(_) | Self::QueueFull { .. } | Self::ByHand(_) => {
                UNAVAILABLE
            }
        }
    }
}
