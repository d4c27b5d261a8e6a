//! `harmonia user`: adds, removes and lists users of the users file.

mod prompt;
mod service;

use std::path::{Path, PathBuf};

use crate::access::users::{Change, PasswordHash, UserName, UserNameError, UsersFile};
use crate::cli::UserAction;
use crate::config::{Config, StoreDirectories};
use crate::error::Error;
use crate::output;
use crate::process::unit::Unit;

pub(super) use service::environment as environment_of_service;

/// Way to make a change effective in a running server.
const RELOAD: &str = "a running server reads it with `systemctl reload harmonia`, or at SIGHUP";

/// Runs an action on the file that it names, else on the one of the configuration, which is not read before.
pub(super) fn run(action: UserAction, load_config: impl FnOnce() -> Result<Config, Error>) -> Result<(), Error> {
    let find = |file: Option<PathBuf>| find(file, load_config);
    match action {
        UserAction::Add { name, file } => add(&name, &find(file.file)?),
        UserAction::Remove { name, file } => remove(&name, &find(file.file)?),
        UserAction::List { file } => list(&find(file.file)?),
    }
}

/// Finds the users file.
fn find(file: Option<PathBuf>, load_config: impl FnOnce() -> Result<Config, Error>) -> Result<UsersFile, Error> {
    if let Some(file) = file {
        return Ok(UsersFile::new(&file, &StoreDirectories::nix())?);
    }
    let config = load_config()?;
    let file = config.access.as_ref().and_then(|access| access.users_file.as_deref()).ok_or(Error::NoUsersFile)?;
    Ok(UsersFile::new(file, &config.store_directories())?)
}

fn add(name: &str, file: &UsersFile) -> Result<(), Error> {
    let name = parse(name)?;
    let password = prompt::new_password(&name)?;
    let hash = PasswordHash::new(&password).map_err(Error::Password)?;
    let service = service::of_new_file(file.path())?;
    let group = service.as_ref().and_then(Unit::group);
    let done = file.change(group.map(|(_, id)| id), |users| Some(users.set(&name, hash)))?;
    let did = match done {
        Some(Change::Written(true)) => "changed the password of",
        _ => "added",
    };
    output::line(format_args!("{did} {name} in {}; {RELOAD}", file.path().display()));
    if let Some(Change::Created(_)) = done {
        output::line(readable(file.path(), group.map(|(name, _)| name)));
    }
    Ok(())
}

/// Says who can read a new file, and how the server gets to do so.
fn readable(file: &Path, group: Option<&str>) -> String {
    if let Some(group) = group {
        return format!("the group {group} of the service can read the new file, and no other user");
    }
    let file = file.display();
    format!(
        "only this user can read the new file; for a server of another user: chgrp harmonia {file} && chmod 640 {file}"
    )
}

fn remove(name: &str, file: &UsersFile) -> Result<(), Error> {
    let name = parse(name)?;
    // A file that does not exist has no users, and is not created.
    file.read()?;
    if file.change(None, |users| users.remove(&name).then_some(()))?.is_none() {
        return Err(Error::NoUser { name: name.to_string(), file: file.path().to_owned() });
    }
    output::line(format_args!("removed {name} from {}; {RELOAD}", file.path().display()));
    Ok(())
}

fn list(file: &UsersFile) -> Result<(), Error> {
    let (users, warning) = file.read()?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    output::print(users.users().fold(String::new(), |names, (name, _)| format!("{names}{name}\n")));
    Ok(())
}

fn parse(name: &str) -> Result<UserName, Error> {
    name.parse().map_err(|cause: UserNameError| Error::UserName { name: name.to_owned(), cause })
}
