//! Address of nix-daemon: a socket to connect to, or a command that speaks the worker protocol on stdin and stdout.
//!
//! Owns the syntax of both and the precedence of their sources, and records the source for the log. Leaves connecting and
//! starting processes to the store. Reads no global state but files: variables and the default socket come from an
//! [`Environment`].

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::environment::Environment;
use super::unix_socket::MAX_UNIX_PATH;

/// Name of the program, looked up in `PATH`.
const NIX_DAEMON: &str = "nix-daemon";
/// Socket of the nix-daemon of a chroot store, below its root.
const CHROOT_SOCKET: &str = "nix/var/nix/daemon-socket/socket";

/// Address of nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// Unix socket that nix-daemon listens on.
    Socket(PathBuf),
    /// Command to start for each connection.
    Command(DaemonCommand),
    /// There is no nix-daemon, and so no store.
    None,
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Command(command) => write!(f, "`{command}`"),
            Self::None => f.write_str("none"),
        }
    }
}

/// Program and its arguments, started without a shell.
///
/// A string is only split at whitespace: no shell has to be installed, nothing is expanded, and a signal reaches the
/// program itself. A string with syntax of a shell is refused; an array in the configuration file can hold any argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonCommand {
    program: String,
    arguments: Vec<String>,
}

impl DaemonCommand {
    /// Creates a command from its words, the program first.
    pub fn from_words(words: impl IntoIterator<Item = String>) -> Result<Self, DaemonAddressError> {
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => Ok(Self { program, arguments: words.collect() }),
            _ => Err(DaemonAddressError::NoProgram),
        }
    }

    /// Returns the command `nix-daemon --stdio` with further arguments.
    fn nix_daemon(arguments: &[&str]) -> Self {
        let arguments = [&["--stdio"], arguments].concat().into_iter().map(str::to_owned).collect();
        Self { program: NIX_DAEMON.to_owned(), arguments }
    }

    /// Returns the program: a path, or a name to look up in `PATH`.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Returns the arguments, without the program's name.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }
}

impl FromStr for DaemonCommand {
    type Err = DaemonAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Not `?`, `=` and `~`, which are common in store URIs and ssh options.
        match text.chars().find(|c| "'\"\\$`|&;<>()".contains(*c)) {
            Some(character) => Err(DaemonAddressError::NeedsShell(character)),
            None => Self::from_words(text.split_whitespace().map(str::to_owned)),
        }
    }
}

impl fmt::Display for DaemonCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// Error of a text that is not the address of nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaemonAddressError {
    /// The path is empty.
    #[error(
        "the daemon's socket path is empty\n  help: name the socket, or leave it out for /nix/var/nix/daemon-socket/socket"
    )]
    EmptyPath,
    /// The path does not fit into a socket address.
    #[error(
        "the daemon's socket path has {0} bytes, a Unix socket address holds {MAX_UNIX_PATH}\n  help: name a link to the socket, or to its directory, that has a shorter path"
    )]
    PathTooLong(usize),
    /// Store URI that is not a local socket.
    #[error(
        "\"{0}\" is not a Unix socket\n  help: for a daemon elsewhere use a command such as `ssh HOST nix-daemon --stdio`"
    )]
    NotASocket(String),
    /// The command has no words.
    #[error("the daemon's command is empty\n  help: write one such as `ssh HOST nix-daemon --stdio`, or leave it out")]
    NoProgram,
    /// The command contains syntax of a shell.
    #[error(
        "the daemon's command contains {0}, but it is split at white space and run without a shell\n  help: write daemon_command in the configuration file as an array of strings, or name a script"
    )]
    NeedsShell(char),
}

/// Parses the socket of nix-daemon: `PATH`, or `unix://PATH` as in Nix's store URIs.
pub(crate) fn socket_path(text: &str) -> Result<PathBuf, DaemonAddressError> {
    let path = match text.strip_prefix("unix://") {
        Some(path) => path,
        None if text.contains("://") => return Err(DaemonAddressError::NotASocket(text.to_owned())),
        None => text,
    };
    checked(Path::new(path))
}

/// Checks that the path fits into a socket address.
fn checked(path: &Path) -> Result<PathBuf, DaemonAddressError> {
    match path.as_os_str().len() {
        0 => Err(DaemonAddressError::EmptyPath),
        1..=MAX_UNIX_PATH => Ok(path.to_owned()),
        length => Err(DaemonAddressError::PathTooLong(length)),
    }
}

/// Address of nix-daemon and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Socket or command.
    pub address: DaemonAddress,
    /// Source of the address.
    pub chosen_by: DaemonSource,
}

/// Writes the address, followed by its source in parentheses.
impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.chosen_by)
    }
}

/// Source of the address of nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonSource {
    /// `--daemon-socket` or `--daemon-command`.
    Flag,
    /// `daemon_socket` or `daemon_command` in the configuration file.
    ConfigFile,
    /// `NIX_DAEMON_SOCKET_PATH`.
    Environment,
    /// Default socket of nix-daemon, since nothing is set.
    Default,
    /// `nix-daemon --stdio`, since nothing is set, the default socket (this path) does not exist, and `PATH` has the program.
    NoSocket(PathBuf),
    /// Chroot store below this directory, since nothing is set and `real_nix_store` is in it.
    ChrootStore(PathBuf),
}

impl fmt::Display for DaemonSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("set on the command line"),
            Self::ConfigFile => f.write_str("set in the configuration file"),
            Self::Environment => f.write_str("set by NIX_DAEMON_SOCKET_PATH"),
            Self::Default => f.write_str("the default"),
            Self::NoSocket(path) => write!(f, "there is no socket at {}", path.display()),
            Self::ChrootStore(root) => write!(f, "real_nix_store is in the store below {}", root.display()),
        }
    }
}

impl Daemon {
    /// Returns the first of: flag, configuration file, `NIX_DAEMON_SOCKET_PATH`, the nix-daemon of `chroot_store` (its socket,
    /// else a command), `nix-daemon --stdio` if the default socket does not exist and the program does, default socket.
    ///
    /// The variable comes after the file, unlike our own variables: it belongs to Nix, and is often set for a whole
    /// session.
    pub(super) fn locate(
        flag: Option<DaemonAddress>,
        file: Option<DaemonAddress>,
        environment: &Environment,
        chroot_store: Option<&Path>,
    ) -> Result<Self, DaemonAddressError> {
        if let Some(address) = flag {
            return Ok(Self { address, chosen_by: DaemonSource::Flag });
        }
        if let Some(address) = file {
            return Ok(Self { address, chosen_by: DaemonSource::ConfigFile });
        }
        if let Some(text) = environment.nix_daemon_socket_path.as_deref().filter(|text| !text.is_empty()) {
            let path = match text.to_str() {
                Some(text) => socket_path(text),
                None => checked(Path::new(text)),
            }?;
            return Ok(Self { address: DaemonAddress::Socket(path), chosen_by: DaemonSource::Environment });
        }
        if let Some(daemon) = chroot_store.and_then(|root| Self::of_chroot_store(root, environment)) {
            return Ok(daemon);
        }
        let socket = environment.default_socket.clone();
        // An error, such as a directory that this user may not search, is not absence: connecting reports it.
        if matches!(socket.try_exists(), Ok(false)) && on_path(NIX_DAEMON, environment.path.as_deref()) {
            let address = DaemonAddress::Command(DaemonCommand::nix_daemon(&[]));
            return Ok(Self { address, chosen_by: DaemonSource::NoSocket(socket) });
        }
        Ok(Self { address: DaemonAddress::Socket(socket), chosen_by: DaemonSource::Default })
    }

    /// Returns the socket that a daemon with `--store ROOT` listens on (Nix, `src/nix/unix/daemon.cc`), or a program for each connection.
    fn of_chroot_store(root: &Path, environment: &Environment) -> Option<Self> {
        let socket = root.join(CHROOT_SOCKET);
        let address = if socket.exists() {
            DaemonAddress::Socket(checked(&socket).ok()?)
        } else if on_path(NIX_DAEMON, environment.path.as_deref()) {
            DaemonAddress::Command(DaemonCommand::nix_daemon(&["--store", root.to_str()?]))
        } else {
            return None;
        };
        Some(Self { address, chosen_by: DaemonSource::ChrootStore(root.to_owned()) })
    }

    /// Returns whether its store may be on another machine or in another directory, as with any command that was configured.
    pub(super) const fn may_be_elsewhere(&self) -> bool {
        let is_ours = matches!(self.chosen_by, DaemonSource::NoSocket(_) | DaemonSource::ChrootStore(_));
        match self.address {
            DaemonAddress::Socket(_) => false,
            DaemonAddress::Command(_) => !is_ours,
            DaemonAddress::None => true,
        }
    }
}

/// Returns whether a directory of `PATH` contains an executable file of this name.
fn on_path(program: &str, path: Option<&OsStr>) -> bool {
    std::env::split_paths(path.unwrap_or_default())
        .filter(|directory| directory.is_absolute())
        .filter_map(|directory| directory.join(program).metadata().ok())
        .any(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with or without the default socket and nix-daemon, in a directory of its own.
    fn machine(socket: bool, program_mode: Option<u32>) -> (tempfile::TempDir, Environment) {
        let directory = tempfile::tempdir().unwrap();
        let default_socket = directory.path().join("socket");
        if socket {
            std::fs::write(&default_socket, "").unwrap();
        }
        if let Some(mode) = program_mode {
            let program = directory.path().join("nix-daemon");
            std::fs::write(&program, "").unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let environment = Environment {
            path: Some(std::env::join_paths([Path::new("/nonexistent"), directory.path()]).unwrap()),
            default_socket,
            ..Environment::default()
        };
        (directory, environment)
    }

    fn socket(path: &str) -> DaemonAddress {
        DaemonAddress::Socket(path.into())
    }

    #[test]
    fn the_flag_wins_over_the_file_and_the_file_over_nix_own_variable() {
        let (_directory, mut environment) = machine(true, Some(0o755));
        environment.nix_daemon_socket_path = Some("unix:///variable".into());
        let chosen = |flag, file| {
            let Daemon { address, chosen_by } = Daemon::locate(flag, file, &environment, None).unwrap();
            (address, chosen_by)
        };
        assert_eq!(chosen(Some(socket("/flag")), Some(socket("/file"))), (socket("/flag"), DaemonSource::Flag));
        assert_eq!(chosen(None, Some(socket("/file"))), (socket("/file"), DaemonSource::ConfigFile));
        assert_eq!(chosen(None, None), (socket("/variable"), DaemonSource::Environment));
    }

    #[test]
    fn without_a_word_it_is_the_default_socket_or_else_the_program() {
        let located = |environment: &Environment| {
            let Daemon { address, chosen_by } = Daemon::locate(None, None, environment, None).unwrap();
            (address.to_string(), chosen_by)
        };
        for (exists, program) in [(true, Some(0o755)), (true, None), (false, None), (false, Some(0o644))] {
            let (_directory, environment) = machine(exists, program);
            let default = environment.default_socket.display().to_string();
            assert_eq!(located(&environment), (default, DaemonSource::Default), "{exists} {program:?}");
        }
        let (_directory, mut environment) = machine(false, Some(0o755));
        environment.nix_daemon_socket_path = Some("".into());
        let missing = DaemonSource::NoSocket(environment.default_socket.clone());
        assert_eq!(located(&environment), ("`nix-daemon --stdio`".to_owned(), missing));
    }

    #[test]
    fn a_variable_that_is_no_socket_is_an_error() {
        let (_directory, mut environment) = machine(true, None);
        environment.nix_daemon_socket_path = Some("ssh-ng://builder".into());
        assert_eq!(
            Daemon::locate(None, None, &environment, None),
            Err(DaemonAddressError::NotASocket("ssh-ng://builder".to_owned()))
        );
    }

    #[test]
    fn a_socket_is_a_path_that_fits_into_an_address() {
        assert_eq!(socket_path("unix:///nix/socket"), Ok("/nix/socket".into()));
        assert_eq!(socket_path("run/socket"), Ok("run/socket".into()));
        assert_eq!(socket_path("unix://"), Err(DaemonAddressError::EmptyPath));
        assert_eq!(socket_path(&"s".repeat(107)), Ok("s".repeat(107).into()));
        assert_eq!(socket_path(&"s".repeat(108)), Err(DaemonAddressError::PathTooLong(108)));
    }

    #[test]
    fn a_command_is_split_at_white_space_and_refused_if_it_was_written_for_a_shell() {
        let command: DaemonCommand = " ssh  -i ~/.ssh/key builder nix-daemon --stdio ".parse().unwrap();
        assert_eq!(command.program(), "ssh");
        assert_eq!(command.arguments(), ["-i", "~/.ssh/key", "builder", "nix-daemon", "--stdio"]);
        assert_eq!(" ".parse::<DaemonCommand>(), Err(DaemonAddressError::NoProgram));
        assert_eq!("a \"b c\"".parse::<DaemonCommand>(), Err(DaemonAddressError::NeedsShell('"')));
        let words = ["a", "b c", ""].map(str::to_owned);
        assert_eq!(DaemonCommand::from_words(words).unwrap().arguments(), ["b c", ""]);
    }
}
