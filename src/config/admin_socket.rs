//! Path of the admin socket: where the server listens for subcommands, and where these look for it.

use std::path::{Path, PathBuf};

use super::bind::BindAddress;
use super::environment::{Environment, first_directory_of};
use super::unix_socket::MAX_UNIX_PATH;

/// Admin socket of the packaged unit (`RuntimeDirectory=harmonia/admin`).
pub(crate) const SYSTEM_ADMIN_SOCKET: &str = "/run/harmonia/admin/admin.sock";

/// File name of the socket in a server's runtime directory.
const NAME: &str = "admin.sock";

/// Error of a text that cannot be the path of a Unix socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an absolute path of at most {MAX_UNIX_PATH} bytes\n  help: write one such as {SYSTEM_ADMIN_SOCKET:?}"
)]
pub(crate) struct AdminSocketError(String);

/// Parses the path of an admin socket: absolute, and short enough for the kernel.
pub(crate) fn admin_socket_path(text: &str) -> Result<PathBuf, AdminSocketError> {
    match format!("unix:{text}").parse() {
        Ok(BindAddress::Unix(path)) => Ok(path),
        _ => Err(AdminSocketError(text.to_owned())),
    }
}

/// Parses the key `admin_socket`, which is empty for no socket.
pub(super) fn admin_socket(text: &str) -> Result<PathBuf, AdminSocketError> {
    if text.is_empty() { Ok(PathBuf::new()) } else { admin_socket_path(text) }
}

/// Resolves the path: the flag, else the key, else a file in the first directory of `RUNTIME_DIRECTORY`.
pub(super) fn resolve(flag: Option<PathBuf>, key: Option<PathBuf>, environment: &Environment) -> Option<PathBuf> {
    let directory = first_directory_of(environment.runtime_directory.as_deref());
    let default = || directory.map(|directory| directory.join(NAME));
    flag.or(key).or_else(default).filter(|path| !path.as_os_str().is_empty())
}

/// Returns the runtime directory of a server that a user starts, below `XDG_RUNTIME_DIR`, if that exists.
#[must_use]
pub(crate) fn user_runtime_directory() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    (directory.is_absolute() && directory.is_dir()).then(|| directory.join("harmonia"))
}

/// Returns the admin sockets that a server without configuration may have, the user's first.
#[must_use]
pub(crate) fn default_admin_sockets() -> Vec<PathBuf> {
    let own = user_runtime_directory().map(|directory| directory.join(NAME));
    own.into_iter().chain([Path::new(SYSTEM_ADMIN_SOCKET).to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{loaded_in, message};

    fn chosen(text: &str, variable: &str) -> Option<PathBuf> {
        let environment =
            Environment { runtime_directory: Some(variable.into()), ..crate::config::tests::environment() };
        loaded_in(text, &environment).admin_socket
    }

    #[test]
    fn the_file_wins_over_the_directory_of_the_unit() {
        assert_eq!(chosen("", ""), None);
        assert_eq!(chosen("", "/run/a:/run/b"), Some("/run/a/admin.sock".into()));
        assert_eq!(chosen("admin_socket = \"/s\"", "/run/a"), Some("/s".into()));
        assert_eq!(chosen("admin_socket = \"\"", "/run/a"), None);
        let flag = resolve(Some("/f".into()), Some(PathBuf::new()), &Environment::default());
        assert_eq!(flag, Some("/f".into()));
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        assert!(message("admin_socket = \"run/s\"").contains("is not an absolute path"));
        let long = format!("/{}", "x".repeat(200));
        assert!(admin_socket_path(&long).unwrap_err().to_string().contains("107 bytes"));
    }
}
