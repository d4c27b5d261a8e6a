//! Files that hold one secret key each.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use harmonia_protocol::signature::{KeyName, PublicKey, SecretKey};

use super::error::{MAX_KEY_FILE, SigningKeyError};
use crate::config::StoreDirectories;

/// Generates a key of this name and writes it to a new file that only this user can read.
///
/// An existing file is an error. A file that could not be written completely is removed.
pub(crate) fn generate(path: &Path, name: KeyName) -> Result<(), SigningKeyError> {
    let create = |cause| SigningKeyError::Create { path: path.to_owned(), cause };
    let (_, secret) = SecretKey::generate(name).map_err(|cause| create(io::Error::other(cause)))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(create)?;
    file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(|cause| {
        // The first error is the one to report. An empty key file would make the next start fail.
        drop(std::fs::remove_file(path));
        create(cause)
    })
}

/// Reads a key file. Returns the key and the mode of the file.
pub(super) fn read(path: &Path, stores: &StoreDirectories) -> Result<(SecretKey, u32), SigningKeyError> {
    if path.to_str().is_some_and(|path| SecretKey::parse(path).is_ok()) {
        return Err(SigningKeyError::NotAFile);
    }
    if let Some(found) = stores.find(path) {
        return Err(SigningKeyError::InStore { path: path.to_owned(), found });
    }
    let unreadable = |cause| SigningKeyError::Read { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut text = String::new();
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_KEY_FILE {
        return Err(SigningKeyError::TooLarge { path: path.to_owned() });
    }
    let text = text.trim_end();
    match SecretKey::parse(text) {
        Ok(key) => Ok((key, mode)),
        Err(_) if PublicKey::parse(text).is_ok() => Err(SigningKeyError::Public { path: path.to_owned() }),
        Err(cause) => Err(SigningKeyError::Malformed { path: path.to_owned(), cause }),
    }
}
