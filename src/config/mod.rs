//! Configuration: from a TOML file, the environment and the command line to one [`Config`].
//!
//! Owns the names of the keys, their ranges and defaults, and the rule of precedence: flags over environment over
//! file over defaults. `file` is what a file says (every key optional, each with its line), `resolve` is what the
//! program uses (nothing optional that has a default, no contradictions left). Leaves opening anything but the
//! configuration file itself to others: keys are loaded by [`crate::signing`], sockets by the listeners.
//!
//! Keys, defaults and their meaning are those of harmonia's README, so that a file written for it loads unchanged;
//! `config.example.toml` lists them all and a test holds it to this module. A relative path, in the file as in the
//! environment, is relative to the working directory of the process.

mod access_log;
mod admin_socket;
mod bind;
mod changes;
mod daemon;
mod environment;
mod errors;
mod file;
mod nar_cache;
mod nars;
mod network;
mod places;
mod resolve;
mod sign;
mod size;
mod store_directories;
#[cfg(test)]
mod tests;
mod value;

use std::io;
use std::path::PathBuf;

pub use access_log::{AccessLogConfig, AccessLogFormat, InvalidAccessLogFormat};
pub use admin_socket::{
    InvalidAdminSocket, SYSTEM_ADMIN_SOCKET, admin_socket_path, default_admin_sockets, user_runtime_directory,
};
pub use bind::{BindAddress, SocketMode};
pub use changes::Changes;
pub use daemon::{ChosenBy, Daemon, DaemonAddress, DaemonAddressError, DaemonCommand, socket_path};
pub use environment::Environment;
pub use errors::ConfigErrors;
pub use nar_cache::{Encoders, InvalidPrecompress, NarCache, Precompress, Zstd};
pub use nars::{InvalidNarSource, InvalidVerify, NarSource, Verify};
pub use network::{InvalidNetwork, Network};
pub use resolve::{Config, NarinfoCache, Overrides, Tls};
pub use sign::{Sign, Trusted};
pub use size::{ByteSize, InvalidSize};
pub use store_directories::StoreDirectories;

/// Why there is no usable configuration. The message names the file and line, and ends in a help line where
/// something can be done.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("cannot read {}: {cause}\n  help: {}", path.display(), read_help(.cause))]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file was read, and something on one of its lines is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// Two ways to reach the daemon, on the command line.
    #[error("--daemon-socket and --daemon-command are both given\n  help: keep the one that reaches the daemon")]
    TwoDaemonFlags,
    /// `NIX_DAEMON_SOCKET_PATH` holds something else than a socket's path.
    #[error("NIX_DAEMON_SOCKET_PATH: {0}")]
    DaemonSocketPath(DaemonAddressError),
    /// `NIX_STORE_DIR` holds no store directory.
    #[error("NIX_STORE_DIR: {0}")]
    StoreDirVariable(String),
    /// `CREDENTIALS_DIRECTORY` is set but cannot be listed.
    #[error("cannot list {} (CREDENTIALS_DIRECTORY): {cause}\n  help: systemd sets it for a service with LoadCredential=; unset it elsewhere", path.display())]
    Credentials {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// What is wrong on a line of the configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not TOML.
    #[error("{0}\n  help: the file is TOML, a line of it such as: bind = \"[::]:5000\"")]
    Syntax(String),
    /// A key that this server does not have.
    #[error("unknown key \"{key}\"\n  help: {}", suggest(key, *.suggestion))]
    UnknownKey {
        /// The key, with its table before a dot.
        key: String,
        /// The known key that looks most like it, if one does.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type, out of range, or malformed.
    #[error("{key}: {reason}")]
    Value {
        /// The key, with its table before a dot.
        key: &'static str,
        /// What the key takes and what the file says, or what is malformed.
        reason: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("{present} is set without {absent}\n  help: set both to serve https, neither to serve http")]
    HalfTls {
        /// The key that is there.
        present: &'static str,
        /// The key that is not.
        absent: &'static str,
    },
    /// A key about what is trusted, where that makes no difference.
    #[error("{key} is set, but every path is signed\n  help: set sign = \"trusted\" too, or remove it")]
    SignsAll {
        /// The key.
        key: &'static str,
    },
    /// Two ways to reach the daemon, in the file.
    #[error("daemon_socket and daemon_command are both set\n  help: keep the one that reaches the daemon")]
    TwoDaemons,
}

fn read_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "the user that harmonia runs as has to be able to read it",
        io::ErrorKind::InvalidData => "the file is TOML, which is text in UTF-8",
        _ => "--config and CONFIG_FILE name the configuration file; without one the defaults hold",
    }
}

fn suggest(key: &str, suggestion: Option<&str>) -> String {
    match suggestion {
        // What stands below a table's header belongs to the table.
        Some(own) if key.contains('.') && !own.contains('.') => {
            format!("did you mean \"{own}\"? it stands above all [tables]")
        }
        Some(key) => format!("did you mean \"{key}\"?"),
        None => "config.example.toml lists every key".to_owned(),
    }
}
