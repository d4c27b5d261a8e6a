//! Facts that the process finds around it: variables, and a few facts about the machine.
//!
//! Owns the names of the variables. Leaves what they mean beside flags and file to `resolve`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where nix-daemon listens unless it is told otherwise.
const DEFAULT_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";
/// Configuration file of earlier servers, where no variable names one.
const UNREAD_FILE: &str = "settings.toml";
/// Variables by which other caches are given a file with a signing key.
const UNREAD_KEY_VARIABLES: [&str; 2] = ["NIX_SECRET_KEY_FILE", "CACHE_SECRET_KEY_PATH"];

/// What the process was given besides flags and file, taken once, so that nothing else reads the environment. A
/// variable that is empty counts as not set.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CONFIG_FILE`: the configuration file, unless a flag names one.
    pub config_file: Option<OsString>,
    /// `SIGN_KEY_PATHS`: files with signing keys, separated by white space.
    pub sign_key_paths: Option<OsString>,
    /// `SIGN_KEY_PATH`: one more, of service units that were written for earlier servers.
    pub sign_key_path: Option<OsString>,
    /// `NIX_STORE_DIR`: Nix's own variable for the store directory.
    pub nix_store_dir: Option<OsString>,
    /// `NIX_DAEMON_SOCKET_PATH`: Nix's own variable for where its daemon listens.
    pub nix_daemon_socket_path: Option<OsString>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts what a unit's `LoadCredential=` names.
    pub credentials_directory: Option<OsString>,
    /// `CACHE_DIRECTORY`: where systemd lets a service keep what it can make again (`CacheDirectory=`).
    pub cache_directory: Option<OsString>,
    /// `RUNTIME_DIRECTORY`: where systemd lets a service have its sockets (`RuntimeDirectory=`).
    pub runtime_directory: Option<OsString>,
    /// `PATH`, to find nix-daemon.
    pub path: Option<OsString>,
    /// Where nix-daemon listens by default: not a variable, but as much a fact about the machine.
    pub default_socket: PathBuf,
    /// A file in the working directory that earlier servers read as their configuration, if it is there: no variable
    /// either. It is not read, since a program that is started anywhere must not do as the files there say.
    pub unread_file: Option<PathBuf>,
    /// Variables that name a signing key for another cache, with their values. They are not read: a variable of a login
    /// session is no order to sign. Whoever moves here from such a cache is told.
    pub unread_keys: Vec<(&'static str, OsString)>,
}

impl Environment {
    /// The environment of this process.
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
