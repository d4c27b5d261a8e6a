//! The users file according to the installed service: the configuration that names it, and the group that reads it.

use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::error::Error;
use crate::process::unit::{SERVICE, Unit};

/// Returns the environment with the configuration file of the service, unless `own` names one.
pub(crate) fn environment(own: &Environment) -> Result<Environment, Error> {
    let mut environment = own.clone();
    if environment.config_file.is_none() {
        if let Some(unit) = installed()? {
            environment.config_file = unit.variable("CONFIG_FILE").map(Into::into);
            // Without these a configuration that needs them is wrong.
            environment.state_directory = unit.state_directory().map(PathBuf::into_os_string);
            environment.cache_directory = unit.cache_directory().map(PathBuf::into_os_string);
        }
    }
    Ok(environment)
}

/// Returns the service if root is about to create this file.
pub(super) fn of_new_file(file: &Path) -> Result<Option<Unit>, Error> {
    if rustix::process::geteuid().is_root() && !file.exists() { installed() } else { Ok(None) }
}

fn installed() -> Result<Option<Unit>, Error> {
    let unit = Unit::installed(SERVICE, &["Environment", "Group", "StateDirectory", "CacheDirectory"]);
    unit.map_err(|cause| Error::System { doing: "ask systemctl about the service", cause })
}
