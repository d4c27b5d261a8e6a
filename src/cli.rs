//! Command line: options, subcommands and their help texts.
//!
//! Leaves precedence between options, environment and file to [`crate::config`], and running the subcommands to `main`.

#![expect(clippy::doc_markdown, reason = "the comments here are printed as help, where Markdown is noise")]
#![allow(rustdoc::broken_intra_doc_links, reason = "[IPv6] is no link")]

#[cfg(feature = "bucket")]
mod bucket;
mod cache;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{BindAddress, CliOverrides, DaemonCommand, admin_socket_path, duration, socket_path};
#[cfg(feature = "bucket")]
pub use bucket::{
    BucketAction, BucketGc, BucketMirror, BucketPin, BucketPins, BucketPublish, BucketStatus, BucketUnpin,
    BucketVerify, MirrorSource, MirrorTarget, PublishedPaths,
};
pub use cache::{CacheAction, ListOrder, PathArguments};

const ENVIRONMENT: &str = "\
Environment:
  CONFIG_FILE             Configuration file, as --config
  SIGN_KEY_PATHS          Files with secret keys, separated by spaces, in addition to those of the configuration
  SIGN_KEY_PATH           File with one more secret key
  CREDENTIALS_DIRECTORY   Set by systemd; credentials whose names start with `sign-key` are secret keys
  NIX_STORE_DIR           Store directory; overrides virtual_nix_store of the configuration
  CACHE_DIRECTORY         Set by systemd; default of nar_cache.dir
  RUNTIME_DIRECTORY       Set by systemd; default directory of the admin socket
  NIX_DAEMON_SOCKET_PATH  Socket of nix-daemon, if neither an option nor the configuration sets one
  LISTEN_FDS              Set by systemd; harmonia listens on its sockets instead of `bind`
  RUST_LOG                Log filter, e.g. `error` or `info,harmonia=debug` [default: info]

Options override the environment, which overrides the configuration file, except that daemon_socket and daemon_command
override NIX_DAEMON_SOCKET_PATH.";

/// Serve the local Nix store over HTTP as a signed binary cache.
///
/// harmonia queries nix-daemon: it opens no database and needs no privileges. Without a subcommand it serves until it
/// receives SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "harmonia", version, after_help = ENVIRONMENT)]
pub struct Cli {
    /// Options of all subcommands.
    #[command(flatten)]
    pub options: Options,
    /// Subcommand; without one, harmonia serves.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options that select the configuration file or override it.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration file (TOML); config.example.toml lists every key
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Address to listen on: host:port, [IPv6]:port or unix:/path
    #[arg(long, value_name = "ADDRESS", global = true)]
    bind: Option<BindAddress>,

    /// Admin socket of the server [default: see admin_socket in config.example.toml]
    ///
    /// The server listens on it; `status` and `cache` connect to it.
    #[arg(long, value_name = "PATH", value_parser = admin_socket_path, global = true)]
    admin_socket: Option<PathBuf>,

    /// Unix socket of nix-daemon: PATH or unix://PATH [default: /nix/var/nix/daemon-socket/socket]
    ///
    /// The configuration and NIX_DAEMON_SOCKET_PATH override the default. If the default does not exist and nix-daemon is
    /// on PATH, harmonia starts `nix-daemon --stdio` instead.
    #[arg(long, value_name = "PATH", value_parser = socket_path, global = true)]
    daemon_socket: Option<PathBuf>,

    /// Command that speaks nix-daemon's protocol on stdin and stdout, instead of a socket
    ///
    /// For example "ssh builder nix-daemon --stdio". It is split at white space and run without a shell, once per
    /// connection.
    #[arg(long, value_name = "COMMAND", global = true)]
    daemon_command: Option<DaemonCommand>,
}

impl Options {
    /// Returns the settings that override environment and configuration file.
    #[must_use]
    pub fn overrides(&self) -> CliOverrides {
        CliOverrides {
            config_file: self.config.clone(),
            bind: self.bind.clone(),
            admin_socket: self.admin_socket.clone(),
            daemon_socket: self.daemon_socket.clone(),
            daemon_command: self.daemon_command.clone(),
        }
    }
}

/// Subcommands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration, signing keys and nix-daemon, then exit
    ///
    /// Reads the configuration, every signing key and the certificate, binds the listening address briefly, inspects the NAR
    /// cache directory, connects to nix-daemon, queries a path and reads a NAR. Prints every finding. The exit status is 0 if
    /// harmonia could serve with this configuration, otherwise a code of sysexits.h for the first problem.
    Check(Check),
    /// Serve without a configuration, with a signing key that is created on first use
    ///
    /// For trying harmonia out: prints the command to run on another machine to use this cache.
    Quickstart,
    /// Show the status of the server on this machine, or of a store path
    ///
    /// Shows clients, running downloads, nix-daemon, caches, quarantined paths and the last errors. It connects to the admin
    /// socket, which is accessible to root and the server's user. Exit status: 0 if all is well, 75 if the server runs but
    /// nix-daemon does not respond, 69 if no server responds, 77 if this user may not connect.
    ///
    /// With a path, shows whether it is valid and served, its signatures and whether they are trusted, the size of its closure,
    /// and when it was last requested. Exit status: 65 if it is not a valid path.
    Status(StatusOptions),
    /// Protect store paths from the garbage collector under a name
    ///
    /// Has nix-daemon make them GC roots, by links in the state directory of the running server, which is asked over its admin
    /// socket. Each time a name is pinned makes a new generation; the last five are kept. To go back, pin the paths of an older
    /// one. Exit status: 65 if the server refuses, for example since a path is not valid.
    Pin(PinOptions),
    /// Remove a pin with all of its generations
    Unpin {
        /// Name of the pin
        name: String,
    },
    /// List the pins and their generations
    Pins {
        /// Print a JSON array, with times in seconds since 1970.
        #[arg(long)]
        json: bool,
    },
    /// Hide a store path from clients until `unhide`, also over restarts
    ///
    /// Clients get the 404 of a path that is not valid, at once and in every endpoint; downloads that have begun may end. The
    /// path need not be valid. Asks the running server over its admin socket; the server needs a state_dir. Exit status: 65 if
    /// it refuses.
    Hide(HideOptions),
    /// Show a hidden store path again
    Unhide {
        /// Store path, a link to one, its base name or hash, or a URL of this cache
        #[arg(value_name = "PATH|HASH|URL")]
        path: String,
    },
    /// List the hidden store paths
    Hidden {
        /// Print a JSON array, with times in seconds since 1970.
        #[arg(long)]
        json: bool,
    },
    /// Inspect and maintain the NAR cache, also while a server uses it
    Cache {
        /// Action on the NAR cache.
        #[command(subcommand)]
        action: CacheAction,
    },
    /// Inspect and maintain the bucket, which several hosts publish into and serve from
    ///
    /// Uses [bucket] of the configuration. If neither --config nor CONFIG_FILE names one, it is that of harmonia.service.
    #[cfg(feature = "bucket")]
    Bucket {
        /// Action on the bucket.
        #[command(subcommand)]
        action: BucketAction,
    },
    /// Add, remove and list users, who log in with a name and a password
    ///
    /// The users are in the file that access.users_file of the configuration names. A running server reads it again at SIGHUP.
    User {
        /// Action on the users file.
        #[command(subcommand)]
        action: UserAction,
    },
}

/// Actions of `user`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserAction {
    /// Add a user, or change the password of one
    ///
    /// Asks for the password twice on a terminal, without showing it; otherwise reads it as one line of standard input. A
    /// password has 8 to 72 bytes. The file is created if it does not exist, for this user only; if root creates it and
    /// harmonia.service is installed, for the group of that service too.
    Add {
        /// Name of the user: visible ASCII characters without `:` and `*`.
        name: String,
        /// Users file.
        #[command(flatten)]
        file: UsersFileOption,
    },
    /// Remove a user
    ///
    /// Exit status: 65 if there is no such user.
    Remove {
        /// Name of the user.
        name: String,
        /// Users file.
        #[command(flatten)]
        file: UsersFileOption,
    },
    /// Print the names of all users, one on a line
    List {
        /// Users file.
        #[command(flatten)]
        file: UsersFileOption,
    },
}

/// The users file to read or change.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UsersFileOption {
    /// Users file, instead of the one that the configuration names; the configuration is not read
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Options of `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Check {
    /// Check only the keys and values of a configuration file, without nix-daemon or any file it names
    #[arg(long, value_name = "FILE", conflicts_with = "unit")]
    pub syntax: Option<PathBuf>,

    /// Check an installed systemd service with its user, credentials and environment (as root)
    #[arg(long, value_name = "UNIT", num_args = 0..=1, default_missing_value = "harmonia")]
    pub unit: Option<String>,

    /// Set for the process that --unit starts
    #[arg(long, hide = true)]
    pub listening_is_checked: bool,
}

/// Options of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusOptions {
    /// Store path, a link to one, its base name or hash, its NAR hash, or a URL of this cache
    #[arg(value_name = "PATH|HASH|URL", conflicts_with_all = ["watch", "top"])]
    pub path: Option<String>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,

    /// Refresh every two seconds until ctrl-C; if stdout is not a terminal, requires --json and prints a line each time
    #[arg(long)]
    pub watch: bool,

    /// Number of clients, downloads and so on to list
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: usize,
}

/// Options of `pin`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PinOptions {
    /// Name of the pin: A-Z, a-z, 0-9, ., _ and -
    pub name: String,

    /// Store paths or links to them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Remove this generation after a time, such as 30d, 12h or 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<Duration>,
}

/// Options of `hide`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HideOptions {
    /// Store path, a link to one, its base name or hash, or a URL of this cache
    #[arg(value_name = "PATH|HASH|URL")]
    pub path: String,

    /// Reason, for the log, `hidden` and `status`
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Also hide every path that refers to it, directly or not, now or later
    #[arg(long)]
    pub referrers: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["harmonia"], arguments].concat())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_serves() {
        assert_eq!(parse(&[]).unwrap().command, None);
    }

    #[test]
    fn options_stand_before_or_after_the_subcommand() {
        for arguments in [["--config", "a.toml", "check"], ["check", "--config", "a.toml"]] {
            let cli = parse(&arguments).unwrap();
            assert_eq!(cli.command, Some(Command::Check(Check::default())));
            assert_eq!(cli.options.overrides().config_file, Some("a.toml".into()));
        }
    }

    #[test]
    fn options_become_overrides_on_both_sides_of_the_subcommand() {
        let cli = parse(&["--daemon-socket", "unix:///s", "check", "--daemon-command", "c -d", "--bind", "[::]:1"]);
        let CliOverrides { config_file, bind, daemon_socket, daemon_command, .. } = cli.unwrap().options.overrides();
        assert_eq!(config_file, None);
        assert_eq!(bind.unwrap().to_string(), "[::]:1");
        assert_eq!(daemon_socket, Some("/s".into()));
        assert_eq!(daemon_command, Some("c -d".parse().unwrap()));
    }

    #[test]
    fn a_malformed_value_is_refused_with_its_reason() {
        for (arguments, reason) in [
            (["--daemon-socket", "ssh://builder"], "is not a Unix socket"),
            (["--daemon-command", "a; b"], "without a shell"),
        ] {
            let error = parse(&arguments).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation);
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(parse(&["--bind", "nowhere"]).unwrap_err().kind(), ErrorKind::ValueValidation);
    }
}
