//! The command line: what can be asked of the program, and how it explains itself.
//!
//! Owns names and help texts of options and subcommands. Leaves what they mean beside file and environment to
//! [`crate::config`], and doing it to `main`.

#![expect(clippy::doc_markdown, reason = "the comments here are printed as help, where Markdown is noise")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{BindAddress, CliOverrides, DaemonCommand, admin_socket_path, socket_path};

const ENVIRONMENT: &str = "\
Environment:
  CONFIG_FILE             Configuration file, as --config
  SIGN_KEY_PATHS          Files with secret keys, separated by spaces, besides those of the configuration
  SIGN_KEY_PATH           One more such file
  CREDENTIALS_DIRECTORY   Set by systemd; credentials whose names start with `sign-key` are secret keys too
  NIX_STORE_DIR           The store directory, in place of virtual_nix_store of the configuration
  CACHE_DIRECTORY         Set by systemd; compressed NARs are kept there, where the configuration does not say
  RUNTIME_DIRECTORY       Set by systemd; the admin socket is made there, where the configuration does not say
  NIX_DAEMON_SOCKET_PATH  The daemon's socket, where neither an option nor the configuration names a daemon
  LISTEN_FDS              Set by systemd: its sockets are served, and `bind` is not used
  RUST_LOG                What is logged, e.g. `error` or `info,harmonia=debug` [default: info]

Options win over the environment, the environment over the configuration file.";

/// Serve the local Nix store over HTTP as a signed binary cache.
///
/// Everything is learnt from nix-daemon: no database is opened, and no privileges are needed. Without a subcommand
/// harmonia serves until it is told to stop.
#[derive(Debug, Parser)]
#[command(name = "harmonia", version, after_help = ENVIRONMENT)]
pub struct Cli {
    /// Options that every subcommand has too.
    #[command(flatten)]
    pub options: Options,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the configuration is, and what wins over it.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration file in TOML; config.example.toml lists every key
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Address to listen on: host:port, [IPv6]:port or unix:/path
    #[arg(long, value_name = "ADDRESS", global = true)]
    bind: Option<BindAddress>,

    /// Socket at which the running server is asked for its status [default: see admin_socket in config.example.toml]
    ///
    /// A server listens there, and subcommands that ask it connect to it.
    #[arg(long, value_name = "PATH", value_parser = admin_socket_path, global = true)]
    admin_socket: Option<PathBuf>,

    /// Socket of nix-daemon: a path, or unix://PATH [default: /nix/var/nix/daemon-socket/socket]
    ///
    /// The configuration wins over the default, and so does NIX_DAEMON_SOCKET_PATH. Where the default does not exist
    /// and nix-daemon is on PATH, `nix-daemon --stdio` is started instead.
    #[arg(long, value_name = "PATH", value_parser = socket_path, global = true)]
    daemon_socket: Option<PathBuf>,

    /// Instead of a socket, a command that speaks the daemon's protocol on stdin and stdout
    ///
    /// For example "ssh builder nix-daemon --stdio". It is split at white space and run without a shell, once for each
    /// connection.
    #[arg(long, value_name = "COMMAND", global = true)]
    daemon_command: Option<DaemonCommand>,
}

impl Options {
    /// What wins over environment and configuration file, and which file that is.
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

/// What to do instead of serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check configuration, signing keys and daemon, and exit
    ///
    /// Reads the configuration, every key and the certificate, listens for a moment, looks at the directory of compressed
    /// NARs, connects to the daemon, asks it about a path and reads a NAR. Prints all that was found; the exit status is 0
    /// if harmonia would serve with it, else a code of sysexits.h, that of the first problem.
    Check(Check),
    /// Serve now, signed with a key of its own that is made on first use
    ///
    /// For trying it out: needs no configuration, and prints what to type on another machine to use this cache.
    Quickstart,
    /// Ask the server that runs on this machine how it is, or what becomes of a path
    ///
    /// Tells who is connected and what is being sent, whether nix-daemon answers, how the caches do, what is held back,
    /// and the last errors. Asks over the admin socket, which is open to root and the server's own user. The exit status is
    /// 0 if all is well, 75 if the server runs but nix-daemon does not answer it, 69 if no server answers, and 77 if this
    /// user may not ask it.
    ///
    /// With a path tells whether it is valid and given out, who has signed it and whether that is trusted, how large it is
    /// with all that it needs, and when it was last asked for. The exit status is 65 then if it is not a valid path.
    Status(StatusOptions),
    /// Look after the directory of compressed NARs, also while a server uses it
    Cache {
        /// What to do with it.
        #[command(subcommand)]
        action: CacheAction,
    },
}

/// What to check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Check {
    /// Check what a configuration file says, and nothing else: no daemon, no key, no file that it names
    #[arg(long, value_name = "FILE", conflicts_with = "unit")]
    pub syntax: Option<PathBuf>,

    /// Check an installed service, as its user, with its credentials and its environment; for root
    #[arg(long, value_name = "UNIT", num_args = 0..=1, default_missing_value = "harmonia")]
    pub unit: Option<String>,

    /// Of the program that --unit runs
    #[arg(long, hide = true)]
    pub listening_is_checked: bool,
}

/// What is told of the server, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusOptions {
    /// A store path or a link to one, its base name or hash, the hash of its NAR, or a URL of this cache
    #[arg(value_name = "PATH|HASH|URL", conflicts_with_all = ["watch", "top"])]
    pub path: Option<String>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,

    /// Print it again every two seconds, until ctrl-C; where that is no terminal only with --json, a line each time
    #[arg(long)]
    pub watch: bool,

    /// How many clients, downloads and so on are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: usize,
}

/// What to do with the directory of compressed NARs.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CacheAction {
    /// Print how many NARs there are and what they take
    Stats,
    /// Print each NAR: its size, that of its compressed form, when it was asked for last, and its store path
    ///
    /// A NAR that was never asked for has the time at which it was made. It is listed by the path that it was made for; others
    /// may have the same NAR.
    List {
        /// What to sort by, the most of it first.
        #[arg(long, value_name = "ORDER", value_enum, default_value_t = ListOrder::Size)]
        sort: ListOrder,
        /// Print a JSON array: sizes in bytes, times in seconds since 1970.
        #[arg(long)]
        json: bool,
    },
    /// Read every NAR, and remove those that are not what they should be
    ///
    /// The exit status is 65 if there were such.
    Verify,
    /// Remove all NARs; they are made again when they are asked for
    Clear,
    /// Compress the NARs of paths before anybody asks for them
    ///
    /// The server that runs is asked to, by its admin socket; where none runs it is done here. A progress bar is shown on a
    /// terminal. The exit status is 65 if one of them is not a valid path, and 69 if a NAR cannot be had.
    Warm {
        /// The paths.
        #[command(flatten)]
        paths: PathArguments,
        /// Leave the work to the server that runs, and return at once
        ///
        /// As for a post-build hook of Nix. If the server has too much to do it is waited for, ten seconds at the most; the
        /// exit status is 69 if it did not take all of them then, or if none runs.
        #[arg(long)]
        background: bool,
    },
    /// Remove the NARs of paths; they are made again when they are asked for
    ///
    /// A path that is not valid any more is found by its name.
    Remove {
        /// The paths.
        #[command(flatten)]
        paths: PathArguments,
    },
}

/// Store paths that something is done with.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PathArguments {
    /// Store paths, or links to them.
    #[arg(required_unless_present = "stdin", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// With all that they refer to.
    #[arg(long, short)]
    pub recursive: bool,
    /// Read paths from standard input too, separated by white space.
    #[arg(long)]
    pub stdin: bool,
}

/// What to sort a list by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListOrder {
    /// Size of the compressed form.
    Size,
    /// Size of the NAR.
    NarSize,
    /// How much smaller it was made.
    Ratio,
    /// When it was asked for last.
    Used,
    /// Name of the path, after its hash.
    Name,
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
