//! Errors of a configuration: all of them are reported at once.

use std::path::PathBuf;
use std::{fmt, io};

use super::access_key::AccessKeyError;
use super::bucket_url::HttpUrlError;
use super::daemon::DaemonAddressError;

/// Reasons why there is no usable configuration; at least one.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Iterates over them in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.iter().enumerate() {
            write!(f, "{}{error}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<ConfigError>);

impl Collected {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// Returns the value, or collects the error.
    pub(super) fn keep<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Returns the value if it and everything before it was valid, else all errors.
    pub(super) fn end<T>(mut self, last: Result<T, ConfigError>) -> Result<T, ConfigErrors> {
        match self.keep(last) {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.0)),
        }
    }
}

/// Reason why there is no usable configuration. The message names the file and line, and ends in a help line if
/// something can be done.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Unreadable file.
    #[error("cannot read {}: {cause}\n  help: {}", path.display(), read_help(.cause))]
    Read {
        /// Path of the file, as configured.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// Invalid line of the file.
    #[error("{}:{line}: {problem}", path.display())]
    File {
        /// Path of the file, as configured.
        path: PathBuf,
        /// Line number, from one.
        line: usize,
        /// Problem on this line.
        problem: Problem,
    },
    /// Two ways to reach nix-daemon on the command line.
    #[error("--daemon-socket and --daemon-command are both given\n  help: keep one of them")]
    TwoDaemonFlags,
    /// Invalid path in `NIX_DAEMON_SOCKET_PATH`.
    #[error("NIX_DAEMON_SOCKET_PATH: {0}")]
    DaemonSocketPath(DaemonAddressError),
    /// Invalid store directory in `NIX_STORE_DIR`.
    #[error("NIX_STORE_DIR: {0}")]
    StoreDirVariable(String),
    /// Unreadable directory in `CREDENTIALS_DIRECTORY`.
    #[error("cannot list {} (CREDENTIALS_DIRECTORY): {cause}\n  help: systemd sets it for a service with LoadCredential=; unset it elsewhere", path.display())]
    Credentials {
        /// The directory.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
}

/// Problem on a line of the configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Syntax error.
    #[error("{0}\n  help: write TOML, for example: bind = \"[::]:5000\"")]
    Syntax(String),
    /// Unknown key.
    #[error("unknown key \"{key}\"\n  help: {}", suggest(key, *.suggestion))]
    UnknownKey {
        /// The key, with its table before a dot.
        key: String,
        /// Most similar key, if there is one.
        suggestion: Option<&'static str>,
    },
    /// Value of the wrong type, out of range, or malformed.
    #[error("{key}: {reason}")]
    Value {
        /// The key, with its table before a dot.
        key: &'static str,
        /// Accepted and actual value, or the malformed part.
        reason: String,
    },
    /// Certificate without its private key, or the reverse.
    #[error("{present} is set without {absent}\n  help: set both to serve https, neither to serve http")]
    HalfTls {
        /// Key that is set.
        present: &'static str,
        /// Key that is missing.
        absent: &'static str,
    },
    /// Key that needs `sign = "trusted"`.
    #[error("{key} has no effect with sign = \"all\"\n  help: set sign = \"trusted\", or remove it")]
    RequiresTrusted {
        /// The key.
        key: &'static str,
    },
    /// Key that needs TLS.
    #[error("{key} has no effect without TLS\n  help: set tls_cert_path and tls_key_path, or remove it")]
    RequiresTls {
        /// The key.
        key: &'static str,
    },
    /// Key or table that needs a directory for its state.
    #[error("{key} needs a directory for its state\n  help: set state_dir, or StateDirectory= in the unit")]
    RequiresStateDir {
        /// The key.
        key: &'static str,
    },
    /// Key that needs a directory for compressed NARs.
    #[error("{key} needs a NAR cache\n  help: set nar_cache.dir, or CacheDirectory= in the unit")]
    RequiresNarCache {
        /// The key.
        key: &'static str,
    },
    /// Neither a nix-daemon nor an object store.
    #[error(
        "daemon_socket = \"none\" leaves nothing to serve\n  help: add [bucket] with its url and without read = false, or name a socket"
    )]
    NothingToServe,
    /// Key or table that needs a nix-daemon.
    #[error("{key} needs a store\n  help: remove it, or daemon_socket = \"none\"")]
    RequiresStore {
        /// The key.
        key: &'static str,
    },
    /// Server of the object store without TLS.
    #[error(
        "bucket.endpoint is a URL of http\n  help: write https://, or set allow_http = true if nobody else is on the network"
    )]
    PlainEndpoint,
    /// Invalid URL in a variable.
    #[error("AWS_ENDPOINT_URL: {0}")]
    EndpointVariable(HttpUrlError),
    /// Access key in variables that is not whole.
    #[error("access key in AWS_ variables: {0}\n  help: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")]
    AccessKeyVariables(AccessKeyError),
    /// Table of a part that this program was built without.
    #[error(
        "this harmonia was built without [{table}]\n  help: build it with the feature \"{table}\", or remove the table"
    )]
    NotBuilt {
        /// Name of the table and of the feature.
        table: &'static str,
    },
    /// Table without a key that it has to have.
    #[error("{table} has no key \"{key}\"\n  help: set it")]
    MissingKey {
        /// Header of the table.
        table: String,
        /// The key.
        key: &'static str,
    },
    /// Grant of a view that is not defined.
    #[error("access.grant.view: there is no view {0:?}\n  help: add [views.{0}] with its roots")]
    UnknownView(String),
    /// Name of a view with characters that are not allowed.
    #[error(
        "{0:?} cannot be the name of a view\n  help: use letters, digits, dots, hyphens and underscores, 64 at most"
    )]
    ViewName(String),
    /// Two sources of one issuer's keys.
    #[error("access.jwt.jwks_path and access.jwt.jwks_url are both set\n  help: keep one of them")]
    TwoJwks,
    /// Two ways to reach nix-daemon in the file.
    #[error("daemon_socket and daemon_command are both set\n  help: keep one of them")]
    TwoDaemons,
}

fn read_help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "make it readable for the user that runs harmonia",
        io::ErrorKind::InvalidData => "the file must be TOML in UTF-8",
        _ => "check the path in --config or CONFIG_FILE; without a file, harmonia uses the defaults",
    }
}

fn suggest(key: &str, suggestion: Option<&str>) -> String {
    match suggestion {
        // A key below the header of a table belongs to the table.
        Some(own) if key.contains('.') && !own.contains('.') => {
            format!("did you mean \"{own}\"? it belongs above all [tables]")
        }
        Some(key) => format!("did you mean \"{key}\"?"),
        None => "config.example.toml lists every key".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::message;

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "worker = 4\npriority = -1\n[zstd]\nlevel = \"3\"\nwindow_log = 9\n";
        let lines: Vec<_> =
            message(text).lines().filter(|line| !line.starts_with("  help: ")).map(str::to_owned).collect();
        let keys = ["1: unknown key \"worker\"", "2: priority: ", "4: zstd.level: ", "5: zstd.window_log: "];
        assert_eq!(lines.len(), keys.len());
        for (line, key) in lines.iter().zip(keys) {
            assert!(line.starts_with(&format!("config.toml:{key}")), "{line}");
        }
        let contradictions =
            message("serve_untrusted = false\ntls_key_path = \"/k\"\ndaemon_socket = \"/s\"\ndaemon_command = \"d\"");
        for contradiction in ["tls_key_path is set without", "serve_untrusted has no effect", "are both set"] {
            assert!(contradictions.contains(contradiction), "{contradictions}");
        }
    }
}
