//! `harmonia quickstart`: a signed cache without any preparation, and what to type to use it.

#![allow(clippy::print_stdout, reason = "the guide is this command's output, not its log")]

use std::path::PathBuf;

use harmonia_protocol::signature::KeyName;

use crate::config::Config;
use crate::error::Error;
use crate::signing::{self, SigningKeys};
use crate::store::Store;

/// Sees to it that there is a key: where none is configured, one of this machine's name is made on first use and kept
/// in the user's state directory.
pub fn prepare(config: &mut Config) -> Result<(), Error> {
    if !config.sign_key_paths.is_empty() {
        return Ok(());
    }
    let path = state_directory()?.join("signing-key.secret");
    if !path.exists() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = KeyName::new(&format!("{host}-1")).or_else(|_| KeyName::new("harmonia-1"));
        let name = name.map_err(|error| Error::NoStateDirectory(error.to_string()))?;
        signing::generate(&path, name)?;
        tracing::info!("made a signing key: {}", path.display());
    }
    config.sign_key_paths.push(path);
    Ok(())
}

/// Where compressed NARs are kept unless something else is configured: in this user's directory for what programs can
/// make again (XDG base directories). Nothing where there is none.
#[must_use]
pub fn cache_directory() -> Option<PathBuf> {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|it| it.join("harmonia"))
}

/// What a newcomer types on another machine.
#[derive(Debug)]
pub struct Guide {
    url: String,
    keys: String,
}

impl Guide {
    /// A guide to the cache at `url` that signs with `keys`.
    #[must_use]
    pub fn new(url: String, keys: &SigningKeys) -> Self {
        Self { url, keys: keys.trusted_public_keys() }
    }

    /// Prints it, with a path of the store to try it on.
    pub async fn print(&self, store: &Store) {
        let path = match store.any_path().await {
            Ok(Some(valid)) => store.directory().full_path(&valid.path),
            Ok(None) => {
                println!("\nThe store is empty. From another shell here, put something in:\n\n  nix-store --add FILE");
                "PATH".to_owned()
            }
            Err(error) => return tracing::error!("{error}"),
        };
        println!("{}", self.text(&path));
    }

    fn text(&self, path: &str) -> String {
        let Self { url, keys } = self;
        format!(
            "
On another machine with Nix, as root or a trusted user, copy a path from here:

  nix --extra-experimental-features nix-command copy --from {url} \\
    --option extra-trusted-public-keys '{keys}' {path}

or have it use this cache for everything, by two lines in its nix.conf:

  extra-substituters = {url}
  extra-trusted-public-keys = {keys}

Where that machine does not know the name in the URL, write an address of this one.
"
        )
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where this user's programs keep their state (XDG base directories, systemd's `StateDirectory=`), made if need be.
fn state_directory() -> Result<PathBuf, Error> {
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("harmonia")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/harmonia")))
        .ok_or_else(|| Error::NoStateDirectory("neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set".into()))?;
    std::fs::create_dir_all(&directory)
        .map_err(|cause| Error::NoStateDirectory(format!("{}: {cause}", directory.display())))?;
    Ok(directory)
}
