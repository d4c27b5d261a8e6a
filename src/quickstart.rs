//! `harmonia quickstart`: a signed cache without any preparation.

use std::path::{Path, PathBuf};

use harmonia_protocol::signature::KeyName;

use crate::config::Config;
use crate::error::Error;
use crate::signing;

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

/// Where this user's programs keep their state (XDG base directories, systemd's `StateDirectory=`), made if need be.
fn state_directory() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("harmonia")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/harmonia")))
        .ok_or_else(|| Error::NoStateDirectory("neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set".into()))?;
    make(&directory).map_err(|cause| Error::NoStateDirectory(format!("{}: {cause}", directory.display())))?;
    Ok(directory)
}

fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)
}
