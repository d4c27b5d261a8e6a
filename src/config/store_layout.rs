//! Store layout: the store directory that clients see, and the directories of its files and build logs on this machine.
//!
//! Owns their defaults. Files and logs have one only if nix-daemon is known to be on this machine: files of another store
//! would be served under the hashes of this one.

use std::path::{Path, PathBuf};

use harmonia_protocol::StoreDir;

use super::daemon::Daemon;
use super::environment::{Environment, path_of};
use super::error::ConfigError;

/// Default directory of build logs (`NIX_LOG_DIR`).
const DEFAULT_LOG_DIR: &str = "/nix/var/log/nix";
/// Directory of build logs, below the parent of a store directory.
const LOGS: &str = "var/log/nix";
/// Database of Nix, below the parent of a store directory. A chroot store has its own.
const DATABASE: &str = "var/nix/db";

/// Directories of the store, as set in the file and the environment.
#[derive(Debug, Default)]
pub(super) struct StoreLayout {
    /// Store directory that clients see.
    pub(super) virtual_nix_store: StoreDir,
    real_nix_store: Option<PathBuf>,
    build_log_dir: Option<PathBuf>,
}

impl StoreLayout {
    /// Resolves the store directories (virtual, real) and the directory of build logs. `NIX_STORE_DIR` takes precedence over
    /// the file, as in earlier servers.
    pub(super) fn resolve(
        (virtual_nix_store, real_nix_store): (Option<StoreDir>, Option<PathBuf>),
        build_log_dir: Option<PathBuf>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let variable = path_of(environment.nix_store_dir.as_deref());
        let variable = variable.map(|path| store_dir(&path.to_string_lossy())).transpose();
        let virtual_nix_store = variable.map_err(ConfigError::StoreDirVariable)?.or(virtual_nix_store);
        Ok(Self { virtual_nix_store: virtual_nix_store.unwrap_or_default(), real_nix_store, build_log_dir })
    }

    /// Returns the root of the store, if it is a chroot store: one filled by `nix copy --to ROOT`, with a database.
    pub(super) fn chroot_store(&self) -> Option<PathBuf> {
        let real = self.real_nix_store.as_deref()?;
        let below_root = Path::new(self.virtual_nix_store.as_str()).strip_prefix("/").ok()?;
        if !real.is_absolute() || !real.ends_with(below_root) {
            return None;
        }
        let root = real.ancestors().nth(below_root.components().count())?;
        let is_elsewhere = root.parent().is_some() && real.parent()?.join(DATABASE).is_dir();
        is_elsewhere.then(|| root.to_owned())
    }

    /// Returns the directories of files and of build logs, as far as they are on this machine.
    pub(super) fn on_this_machine(&self, daemon: &Daemon) -> (Option<PathBuf>, Option<PathBuf>) {
        let logs = self.build_log_dir.clone();
        match &self.real_nix_store {
            Some(real) => (Some(real.clone()), logs.or_else(|| Some(real.parent()?.join(LOGS)))),
            None if daemon.may_be_elsewhere() => (None, logs),
            None => (Some(self.virtual_nix_store.as_str().into()), logs.or_else(|| Some(DEFAULT_LOG_DIR.into()))),
        }
    }
}

/// Parses a store directory, ignoring slashes at its end.
pub(super) fn store_dir(text: &str) -> Result<StoreDir, String> {
    // The error quotes the text as it was written.
    StoreDir::new(text.trim_end_matches('/'))
        .or_else(|_| StoreDir::new(text))
        .map_err(|error| format!("{error}\n  help: write where clients have their store, nearly always \"/nix/store\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::daemon::DaemonSource;
    use crate::config::tests::loaded_in;
    use crate::config::{Config, DaemonAddress};

    fn here(config: &Config) -> (Option<&str>, Option<&str>) {
        let text = |path| Option::<&PathBuf>::map(path, |path| path.to_str().unwrap());
        (text(config.real_nix_store.as_ref()), text(config.build_log_dir.as_ref()))
    }

    #[test]
    fn what_is_here_follows_from_where_the_daemon_is() {
        let local = (Some("/nix/store"), Some("/nix/var/log/nix"));
        let guest = (Some("/guest/nix/store"), Some("/guest/nix/var/log/nix"));
        let ssh = "daemon_command = \"ssh builder nix-daemon --stdio\"\n";
        for (text, expected) in [
            (String::new(), local),
            ("daemon_socket = \"/s\"".to_owned(), local),
            (ssh.to_owned(), (None, None)),
            (format!("{ssh}build_log_dir = \"/logs\""), (None, Some("/logs"))),
            ("real_nix_store = \"/guest/nix/store\"".to_owned(), guest),
            (format!("{ssh}real_nix_store = \"/guest/nix/store\""), guest),
            ("real_nix_store = \"/guest/nix/store\"\nbuild_log_dir = \"/logs\"".to_owned(), (guest.0, Some("/logs"))),
        ] {
            assert_eq!(here(&loaded_in(&text, &Environment::default())), expected, "{text}");
        }
    }

    #[test]
    fn a_store_that_lies_elsewhere_has_its_own_daemon() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("nix/var/nix");
        let text = format!("real_nix_store = {:?}", root.path().join("nix/store"));
        let program = root.path().join("bin");
        std::fs::create_dir(&program).unwrap();
        std::fs::copy("/bin/true", program.join("nix-daemon")).unwrap();
        let environment = Environment { path: Some(program.into()), ..Environment::default() };
        let daemon = |text: &str| loaded_in(text, &environment).daemon;
        assert_eq!(daemon(&text).chosen_by, DaemonSource::NoSocket("".into()), "it has no database");
        std::fs::create_dir_all(state.join("db")).unwrap();
        let chosen = daemon(&text);
        let command = format!("nix-daemon --stdio --store {}", root.path().display());
        assert_eq!(chosen.address, DaemonAddress::Command(command.parse().unwrap()));
        assert_eq!(chosen.chosen_by, DaemonSource::ChrootStore(root.path().to_owned()));
        assert_eq!(daemon(&format!("daemon_socket = \"/s\"\n{text}")).chosen_by, DaemonSource::ConfigFile);
        let socket = state.join("daemon-socket/socket");
        std::fs::create_dir(socket.parent().unwrap()).unwrap();
        std::fs::write(&socket, "").unwrap();
        assert_eq!(daemon(&text).address, DaemonAddress::Socket(socket));
    }

    #[test]
    fn slashes_at_the_end_and_the_variable_count() {
        let environment =
            |variable: &str| Environment { nix_store_dir: Some(variable.into()), ..Environment::default() };
        for (text, variable, expected) in [
            ("virtual_nix_store = \"/nix/store/\"", "", "/nix/store"),
            ("virtual_nix_store = \"/a/store\"", "/b/store//", "/b/store"),
            ("", "/b/store", "/b/store"),
        ] {
            assert_eq!(loaded_in(text, &environment(variable)).virtual_nix_store.as_str(), expected);
        }
    }
}
