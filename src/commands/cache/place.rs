//! Finds the directory for `harmonia cache`, and the server that uses it.
//!
//! If neither configuration nor environment name a directory, it is that of the running server, else that of the installed
//! unit, else the packages' default if that has harmonia's tag.

use std::path::{Path, PathBuf};

use crate::admin::{self, Client, ClientError};
use crate::config::{ByteSize, CliOverrides, Config, Environment, NarCacheConfig, Precompress};
use crate::error::Error;
use crate::nar_cache::CacheDirectory;
use crate::process::unit::{SERVICE, Unit};

/// Directory of the NAR cache in the packages and the NixOS module.
const DEFAULT_DIRECTORY: &str = "/var/cache/harmonia";

/// The directory of the NAR cache, with the configuration and the server that belong to it.
#[derive(Debug)]
pub(super) struct Place {
    /// Configuration of the service, as far as it is known.
    pub(super) config: Config,
    /// Settings of the NAR cache.
    pub(super) nars: NarCacheConfig,
    /// The server that uses the directory, or the reason why none can be reached.
    pub(super) server: Result<Client, ClientError>,
}

/// Finds the directory. Logs which it is if it was not named.
pub(super) async fn find(loaded: Config, overrides: &CliOverrides, environment: &Environment) -> Result<Place, Error> {
    let (server, in_use) = running(&loaded).await;
    if let Some(nars) = loaded.nar_cache.clone() {
        let uses_it = in_use.as_ref().is_some_and(|used| is_same(&used.dir, &nars.dir));
        let server = if uses_it { server } else { server.and_then(|other| Err(elsewhere(&other))) };
        return Ok(Place { config: loaded, nars, server });
    }
    if let Some(nars) = in_use {
        tracing::info!("using {}, the directory of the running server", nars.dir.display());
        return Ok(Place { config: loaded, nars, server });
    }
    let config = of_service(overrides, environment)?;
    let nars = config.nar_cache.clone().ok_or(Error::NoNarCache)?;
    Ok(Place { config, nars, server })
}

/// Finds the running server and the NAR cache that it uses.
async fn running(config: &Config) -> (Result<Client, ClientError>, Option<NarCacheConfig>) {
    let server = match Client::find(config.admin_socket.as_deref()).await {
        Ok(server) => server,
        Err(error) => return (Err(error), None),
    };
    match server.get::<admin::CacheDirectory>("/cache").await {
        Ok(admin::CacheDirectory { dir, max_size }) => {
            let nars =
                dir.map(|dir| NarCacheConfig { dir, max_size: ByteSize::new(max_size), precompress: Precompress::Off });
            (Ok(server), nars)
        }
        Err(error) => (Err(error), None),
    }
}

/// A server with another directory does not count.
fn elsewhere(other: &Client) -> ClientError {
    ClientError::NoServer { tried: vec![other.path().to_owned()] }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Loads the configuration again with the environment of the installed unit, or with the default directory.
fn of_service(overrides: &CliOverrides, environment: &Environment) -> Result<Config, Error> {
    let unit = Unit::installed(SERVICE, &["Environment", "CacheDirectory", "StateDirectory"]);
    let unit = unit.map_err(|cause| Error::System { doing: "ask systemctl about the service", cause })?;
    let mut environment = environment.clone();
    if let Some(unit) = &unit {
        environment.cache_directory = unit.cache_directory().map(PathBuf::into_os_string);
        environment.state_directory = unit.state_directory().map(PathBuf::into_os_string);
        environment.config_file = environment.config_file.or_else(|| unit.variable("CONFIG_FILE").map(Into::into));
    } else {
        environment.cache_directory = Some(DEFAULT_DIRECTORY.into());
    }
    let (config, _) = Config::load(overrides.clone(), &environment)?;
    match (&config.nar_cache, unit) {
        (Some(nars), Some(_)) => tracing::info!("using {}, the directory of {SERVICE}.service", nars.dir.display()),
        (Some(nars), None) if CacheDirectory::configured(&config)?.is_some() => {
            tracing::info!("using {}, which has a CACHEDIR.TAG of harmonia", nars.dir.display());
        }
        _ => return Err(Error::NoNarCache),
    }
    Ok(config)
}
