//! Why the program ends, and with which status.

use crate::access_log::AccessLogError;
use crate::admin::ClientError;
use crate::config::ConfigErrors;
use crate::nar_cache::{DirectoryError, WarmError};
use crate::net::tls::TlsError;
use crate::net::{BindError, InheritError};
use crate::signing::SigningKeyError;
use crate::store::StoreError;

/// Why the program cannot do what it was asked to. The message has its help line where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not hold.
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
    /// What the service manager passed on cannot be listened on.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The daemon cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no place for a file that is to be made.
    #[error("no directory for the signing key: {0}\n  help: set HOME, or name a key with sign_key_paths")]
    NoStateDirectory(String),
    /// A check found what would keep it from serving, and has told of it.
    #[error("harmonia would not serve")]
    WouldNotServe {
        /// The exit status of the first problem.
        code: u8,
    },
    /// The validity of the certificate is over.
    #[error("the certificate {} ended {days} days ago\n  help: renew it; clients refuse it", path.display())]
    CertificateEnded {
        /// The certificate file.
        path: std::path::PathBuf,
        /// Days since its end.
        days: i64,
    },
    /// A unit is to be checked by somebody who cannot become its user.
    #[error("only root can check a unit as its user\n  help: sudo harmonia check --unit harmonia")]
    NotRoot,
    /// There is no such service.
    #[error(
        "systemd has no service {0} that starts a program\n  help: systemctl list-units --all 'harmonia*' lists what there is"
    )]
    NoUnit(String),
    /// A socket unit that does not listen.
    #[error(
        "{unit} does not listen ({state}), so connections are refused\n  help: systemctl restart {unit}, when nothing else is wrong"
    )]
    SocketDown {
        /// The socket unit.
        unit: String,
        /// Its state, and how it came to it.
        state: String,
    },
    /// systemd could not begin to run the program.
    #[error("systemd cannot start the program of {unit}: {}\n  help: systemctl cat {unit} shows the unit with its drop-ins, systemd.exec(5) what the status means", .code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit status {code}")))]
    UnitCannotStart {
        /// The unit.
        unit: String,
        /// By systemd.exec(5), unless it was killed.
        code: Option<i32>,
    },
    /// No directory keeps compressed NARs.
    #[error(
        "no directory for compressed nars is configured\n  help: set nar_cache.dir or CACHE_DIRECTORY, or name the configuration of the server with --config"
    )]
    NoNarCache,
    /// The directory of compressed NARs must not be used, or cannot.
    #[error(transparent)]
    NarCacheDirectory(#[from] DirectoryError),
    /// The directory of compressed NARs cannot be read or changed.
    #[error("cannot look after {}: {cause}", dir.display())]
    NarCache {
        /// The directory.
        dir: std::path::PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// Compressed NARs were not what they should be.
    #[error("{0} compressed nars were not what they should be, and are removed")]
    CorruptNars(usize),
    /// What is to be compressed is no path of the store.
    #[error("{} is not a path of the store, nor a link to one\n  help: name a path such as /nix/store/HASH-NAME, or the result of a build", .0.display())]
    NoStorePath(std::path::PathBuf),
    /// Compressed NARs are not made or removed.
    #[error(transparent)]
    ByHand(#[from] WarmError),
    /// A server has the directory, and cannot be asked.
    #[error("{} is used by another harmonia process, which cannot be asked: {why}", dir.display())]
    InUse {
        /// The directory.
        dir: std::path::PathBuf,
        /// The reason why it cannot.
        why: ClientError,
    },
    /// A server has too much to do already.
    #[error(
        "the server has {waiting} paths to compress already, and did not take {left} of these\n  help: hand them over again \
         later, or wait for them without --background"
    )]
    QueueFull {
        /// Paths that were not taken, the last ones.
        left: usize,
        /// Paths that wait there already.
        waiting: usize,
    },
    /// The server that runs cannot be asked, or does not do what it is asked to.
    #[error(transparent)]
    Admin(#[from] ClientError),
    /// The server runs without its daemon.
    #[error("the server runs, and nix-daemon does not answer it")]
    DaemonAway,
    /// Something is asked for that makes no sense.
    #[error("{0}")]
    Usage(&'static str),
    /// The system refuses something basic.
    #[error("cannot {doing}: {cause}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        cause: std::io::Error,
    },
}

impl Error {
    /// Each thing that is wrong, for a line of the log each.
    #[must_use]
    pub fn each(&self) -> Vec<&dyn std::fmt::Display> {
        match self {
            Self::Config(errors) => errors.iter().map(|error| error as _).collect(),
            error => vec![error],
        }
    }

    /// The exit status: a code of sysexits.h, so that a unit or a script can tell what to do.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
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
            Self::DaemonAway => TEMPORARY,
            Self::Usage(_) => USAGE,
            Self::CorruptNars(_) | Self::NoStorePath(_) | Self::ByHand(WarmError::NotValid(_)) => DATA,
            Self::Config(_)
            | Self::SigningKey(_)
            | Self::Tls(_)
            | Self::AccessLog(_)
            | Self::Inherit(_)
            | Self::NoNarCache
            | Self::CertificateEnded { .. }
            | Self::UnitCannotStart { .. } => CONFIG,
            Self::NotRoot => NO_PERMISSION,
            Self::NoStateDirectory(_) => CANNOT_CREATE,
            Self::NarCacheDirectory(error) if error.is_refusal() => CONFIG,
            Self::System { .. } | Self::NarCache { .. } | Self::NarCacheDirectory(_) => OS_ERROR,
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
