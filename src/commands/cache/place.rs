//! The directory that `harmonia cache` looks after, and the server that uses it.
//!
//! Where neither configuration nor environment name a directory it is that of the server that runs, else that of the
//! installed unit, else the usual one if it has the mark.

use std::path::{Path, PathBuf};

use crate::admin::{self, Client, ClientError};
use crate::config::{ByteSize, CliOverrides, Config, Environment, NarCacheConfig, Precompress};
use crate::error::Error;
use crate::nar_cache::CacheDirectory;
use crate::process::unit::{SERVICE, Unit};

/// The directory in which packages and NixOS module have the service keep compressed NARs.
const USUAL_DIRECTORY: &str = "/var/cache/harmonia";

/// A directory of compressed NARs, with what is needed to add to it.
#[derive(Debug)]
pub(super) struct Place {
    /// The configuration of the service, as far as it is known.
    pub(super) config: Config,
    /// The cache of compressed NARs.
    pub(super) nars: NarCacheConfig,
    /// The server that uses the directory, or why none can be asked.
    pub(super) server: Result<Client, ClientError>,
}

/// Finds the directory, and says which it is where nobody has named it.
pub(super) async fn find(loaded: Config, overrides: &CliOverrides, environment: &Environment) -> Result<Place, Error> {
    let (server, in_use) = running(&loaded).await;
    if let Some(nars) = loaded.nar_cache.clone() {
        let uses_it = in_use.as_ref().is_some_and(|used| is_same(&used.dir, &nars.dir));
        let server = if uses_it { server } else { server.and_then(|other| Err(elsewhere(&other))) };
        return Ok(Place { config: loaded, nars, server });
    }
    if let Some(nars) = in_use {
        tracing::info!("using {}, as the server that runs does", nars.dir.display());
        return Ok(Place { config: loaded, nars, server });
    }
    let config = of_service(overrides, environment)?;
    let nars = config.nar_cache.clone().ok_or(Error::NoNarCache)?;
    Ok(Place { config, nars, server })
}

/// The server that runs, and what it keeps where.
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

/// A server that keeps its NARs in another directory is none here.
fn elsewhere(other: &Client) -> ClientError {
    ClientError::NoServer { tried: vec![other.path().to_owned()] }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// The configuration of the service, of which there is none so far: with what its unit says, or with the usual directory.
fn of_service(overrides: &CliOverrides, environment: &Environment) -> Result<Config, Error> {
    let unit = Unit::installed(SERVICE, &["Environment", "CacheDirectory"]);
    let unit = unit.map_err(|cause| Error::System { doing: "ask systemctl about the service", cause })?;
    let mut environment = environment.clone();
    if let Some(unit) = &unit {
        environment.cache_directory = unit.cache_directory().map(PathBuf::into_os_string);
        environment.config_file = environment.config_file.or_else(|| unit.variable("CONFIG_FILE").map(Into::into));
    } else {
        environment.cache_directory = Some(USUAL_DIRECTORY.into());
    }
    let (config, _) = Config::load(overrides.clone(), &environment)?;
    match (&config.nar_cache, unit) {
        (Some(nars), Some(_)) => tracing::info!("using {}, as {SERVICE}.service does", nars.dir.display()),
        (Some(nars), None) if CacheDirectory::configured(&config)?.is_some() => {
            tracing::info!("using {}, which has the mark of harmonia", nars.dir.display());
        }
        _ => return Err(Error::NoNarCache),
    }
    Ok(config)
}
