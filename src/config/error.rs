//! Errors of a configuration: all of them are reported at once.

use std::path::PathBuf;
use std::{fmt, io};

use super::daemon::DaemonAddressError;

/// Reasons why there is no usable configuration: one at least.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Each of them, in the order of the file.
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

/// Errors that are found one after the other.
#[derive(Debug, Default)]
pub(super) struct Collected(Vec<ConfigError>);

impl Collected {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// The value, if there is one. The error otherwise is kept.
    pub(super) fn keep<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// The last value, if neither it nor anything before it is an error.
    pub(super) fn end<T>(mut self, last: Result<T, ConfigError>) -> Result<T, ConfigErrors> {
        match self.keep(last) {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.0)),
        }
    }
}

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
    #[error("--daemon-socket and --daemon-command are both given\n  help: keep one of them")]
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
    #[error("{0}\n  help: write TOML, for example: bind = \"[::]:5000\"")]
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
    #[error("{key} has no effect with sign = \"all\"\n  help: set sign = \"trusted\", or remove it")]
    RequiresTrusted {
        /// The key.
        key: &'static str,
    },
    /// Two ways to reach the daemon, in the file.
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
        // What stands below a table's header belongs to the table.
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
