//! Where nix-daemon is: a socket to connect to, or a command that speaks the worker protocol on stdin and stdout.
//!
//! Owns the two notations and the order in which layout are tried, and remembers which one decided, so that the log
//! can say why a daemon was chosen. Leaves connecting and starting to the pool. Reads no global state: environment
//! and the default socket come in as an [`Environment`].

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::environment::Environment;
use super::unix_socket::MAX_UNIX_PATH;

/// The program, as it is found on `PATH`.
const NIX_DAEMON: &str = "nix-daemon";
/// Socket of the daemon of a store with a root of its own, below that root.
const CHROOT_SOCKET: &str = "nix/var/nix/daemon-socket/socket";

/// A way to reach nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonAddress {
    /// The daemon listens on this Unix socket.
    Socket(PathBuf),
    /// A process to start for each connection.
    Command(DaemonCommand),
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Command(command) => write!(f, "`{command}`"),
        }
    }
}

/// A program and its arguments, started without a shell.
///
/// As one string it is split at white space and nothing else: no shell has to be installed, nothing in the string is
/// expanded, and a signal reaches the program itself. A string that was written for a shell is refused rather than
/// run as something else; an array in the configuration file can hold any argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonCommand {
    program: String,
    arguments: Vec<String>,
}

impl DaemonCommand {
    /// The command of these words, the program first.
    pub fn from_words(words: impl IntoIterator<Item = String>) -> Result<Self, DaemonAddressError> {
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => Ok(Self { program, arguments: words.collect() }),
            _ => Err(DaemonAddressError::NoProgram),
        }
    }

    /// Nix's own program, for one connection.
    fn nix_daemon(arguments: &[&str]) -> Self {
        let arguments = [&["--stdio"], arguments].concat().into_iter().map(str::to_owned).collect();
        Self { program: NIX_DAEMON.to_owned(), arguments }
    }

    /// The program: a path, or a name to be looked up in `PATH`.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Its arguments, without the program's name.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }
}

impl FromStr for DaemonCommand {
    type Err = DaemonAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only what shows that a shell is expected: `?`, `=` and `~` are common in store URIs and ssh options.
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

/// Why a text names no daemon.
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
    /// A store URI that is not a local socket.
    #[error(
        "\"{0}\" is not a Unix socket\n  help: for a daemon elsewhere use a command such as `ssh HOST nix-daemon --stdio`"
    )]
    NotASocket(String),
    /// The command has no words.
    #[error("the daemon's command is empty\n  help: write one such as `ssh HOST nix-daemon --stdio`, or leave it out")]
    NoProgram,
    /// The command uses a shell's notation.
    #[error(
        "the daemon's command contains {0}, but it is split at white space and run without a shell\n  help: write daemon_command in the configuration file as an array of strings, or name a script"
    )]
    NeedsShell(char),
}

/// Parses a daemon's socket: a path, also written `unix://PATH` as in Nix's store URIs.
pub fn socket_path(text: &str) -> Result<PathBuf, DaemonAddressError> {
    let path = match text.strip_prefix("unix://") {
        Some(path) => path,
        None if text.contains("://") => return Err(DaemonAddressError::NotASocket(text.to_owned())),
        None => text,
    };
    checked(Path::new(path))
}

/// A path that can be a socket's address.
fn checked(path: &Path) -> Result<PathBuf, DaemonAddressError> {
    match path.as_os_str().len() {
        0 => Err(DaemonAddressError::EmptyPath),
        1..=MAX_UNIX_PATH => Ok(path.to_owned()),
        length => Err(DaemonAddressError::PathTooLong(length)),
    }
}

/// The daemon to use, and why this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// How to reach it.
    pub address: DaemonAddress,
    /// What decided.
    pub chosen_by: DaemonSource,
}

/// The address, and in brackets why this one.
impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.chosen_by)
    }
}

/// What decided where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonSource {
    /// `--daemon-socket` or `--daemon-command`.
    Flag,
    /// `daemon_socket` or `daemon_command` in the configuration file.
    ConfigFile,
    /// `NIX_DAEMON_SOCKET_PATH`.
    Environment,
    /// Nothing was said: the socket where nix-daemon listens by default.
    Default,
    /// Nothing was said and the default socket (the path here) does not exist, but the program is on `PATH`.
    NoSocket(PathBuf),
    /// Nothing was said, but `real_nix_store` is in a store of its own below this directory.
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
    /// The first that is there of: flag, configuration file, `NIX_DAEMON_SOCKET_PATH`, the daemon of `chroot_store` (its
    /// socket, else a command), default socket, and `nix-daemon --stdio` where the default socket does not exist and the
    /// program does.
    ///
    /// The variable comes after the file, unlike our own variables: it belongs to Nix, is often set for a whole
    /// session, and says where Nix's default is.
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
        // An error (a parent directory closed to us) is not absence: connecting will say what it is.
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

    /// Whether its store may be on another machine, or in another place: who knows what a command does.
    pub(super) const fn may_be_elsewhere(&self) -> bool {
        let is_ours = matches!(self.chosen_by, DaemonSource::NoSocket(_) | DaemonSource::ChrootStore(_));
        matches!(self.address, DaemonAddress::Command(_)) && !is_ours
    }
}

/// Whether a directory of `PATH` holds an executable file of this name.
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
