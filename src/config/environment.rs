//! Environment of the process: variables, and a few facts about the machine.
//!
//! Owns the names of the variables. Leaves their precedence to `resolve`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::access_key::AwsVariables;

/// Socket of nix-daemon by default.
const DEFAULT_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";
/// Configuration file that earlier servers read by default.
const UNREAD_FILE: &str = "settings.toml";
/// Variables in which other caches take the file of a signing key.
const UNREAD_KEY_VARIABLES: [&str; 2] = ["NIX_SECRET_KEY_FILE", "CACHE_SECRET_KEY_PATH"];

/// Environment variables and facts about the machine, captured once, so that nothing else reads them. An empty variable
/// counts as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CONFIG_FILE`: the configuration file, unless a flag names one.
    pub config_file: Option<OsString>,
    /// `SIGN_KEY_PATHS`: files with signing keys, separated by whitespace.
    pub sign_key_paths: Option<OsString>,
    /// `SIGN_KEY_PATH`: one more file, for service units that were written for earlier servers.
    pub sign_key_path: Option<OsString>,
    /// `NIX_STORE_DIR`: Nix's variable for the store directory.
    pub nix_store_dir: Option<OsString>,
    /// `NIX_DAEMON_SOCKET_PATH`: Nix's variable for the socket of nix-daemon.
    pub nix_daemon_socket_path: Option<OsString>,
    /// `CREDENTIALS_DIRECTORY`: directory of systemd credentials (`LoadCredential=`).
    pub credentials_directory: Option<OsString>,
    /// `CACHE_DIRECTORY`: cache directories that systemd created (`CacheDirectory=`).
    pub cache_directory: Option<OsString>,
    /// `RUNTIME_DIRECTORY`: runtime directories that systemd created (`RuntimeDirectory=`).
    pub runtime_directory: Option<OsString>,
    /// `STATE_DIRECTORY`: state directories that systemd created (`StateDirectory=`).
    pub state_directory: Option<OsString>,
    /// Variables for object stores.
    pub aws: AwsVariables,
    /// `PATH`, to find nix-daemon.
    pub path: Option<OsString>,
    /// Default socket of nix-daemon. Not a variable; tests set it.
    pub default_socket: PathBuf,
    /// Configuration file of earlier servers in the working directory, if it exists. It is only warned about: files in the
    /// directory where a program is started must not control it.
    pub unread_file: Option<PathBuf>,
    /// Variables that name a signing key for another cache, with their values. They are only warned about: a variable of a
    /// login session is no instruction to sign.
    pub unread_keys: Vec<(&'static str, OsString)>,
}

impl Environment {
    /// Captures the environment of this process.
    #[must_use]
    pub fn capture() -> Self {
        Self {
            config_file: std::env::var_os("CONFIG_FILE"),
            sign_key_paths: std::env::var_os("SIGN_KEY_PATHS"),
            sign_key_path: std::env::var_os("SIGN_KEY_PATH"),
            nix_store_dir: std::env::var_os("NIX_STORE_DIR"),
            nix_daemon_socket_path: std::env::var_os("NIX_DAEMON_SOCKET_PATH"),
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY"),
            cache_directory: std::env::var_os("CACHE_DIRECTORY"),
            runtime_directory: std::env::var_os("RUNTIME_DIRECTORY"),
            state_directory: std::env::var_os("STATE_DIRECTORY"),
            aws: AwsVariables::capture(),
            path: std::env::var_os("PATH"),
            default_socket: PathBuf::from(DEFAULT_SOCKET),
            unread_file: Some(PathBuf::from(UNREAD_FILE)).filter(|file| file.is_file()),
            unread_keys: UNREAD_KEY_VARIABLES
                .into_iter()
                .filter_map(|name| Some((name, std::env::var_os(name).filter(|value| !value.is_empty())?)))
                .collect(),
        }
    }
}

/// Returns the path in a variable, unless that is empty.
pub(super) fn path_of(variable: Option<&OsStr>) -> Option<&Path> {
    variable.filter(|value| !value.is_empty()).map(Path::new)
}

/// Returns the first path in a variable with directories that systemd created, which are separated by colons.
pub(super) fn first_directory_of(variable: Option<&OsStr>) -> Option<&Path> {
    path_of(variable?.as_bytes().split(|byte| *byte == b':').next().map(OsStr::from_bytes))
}
