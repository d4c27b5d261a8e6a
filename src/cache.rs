//! `harmonia cache`: looking after the directory of compressed NARs.

use std::path::PathBuf;

use crate::cli::CacheAction;
use crate::config::{Config, Environment, Overrides};
use crate::error::Error;
use crate::nar_cache::{CacheDirectory, clear, stats, verify};
use crate::output;
use crate::unit::{SERVICE, Unit};
use crate::warm::{self, Warmed};

/// How often a long look says how far it is, in files.
const PROGRESS: usize = 1000;

/// Where the packages and the NixOS module have the service keep compressed NARs.
const USUAL_DIRECTORY: &str = "/var/cache/harmonia";

/// The configuration of the service on this machine, for whoever is not told of one: where `loaded` names no directory, the
/// installed unit does, or the usual place is one. Says which it is.
pub fn configuration_of_service(
    loaded: Config,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Config, Error> {
    if loaded.nar_cache.is_some() || environment.cache_directory.as_ref().is_some_and(|dir| !dir.is_empty()) {
        return Ok(loaded);
    }
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
        (Some(cache), Some(_)) => tracing::info!("using {}, as {SERVICE}.service does", cache.dir.display()),
        (Some(cache), None) if CacheDirectory::configured(&config)?.is_some() => {
            tracing::info!("using {}, which has the mark of harmonia", cache.dir.display());
        }
        _ => return Ok(loaded),
    }
    Ok(config)
}

/// Does it, and prints what came of it.
pub async fn run(config: &Config, action: CacheAction) -> Result<(), Error> {
    let settings = config.nar_cache.as_ref().ok_or(Error::NoNarCache)?;
    let (name, max_size) = (settings.dir.display(), settings.max_size.bytes());
    let failed = |cause| Error::NarCache { dir: settings.dir.clone(), cause };
    let Some(dir) = &CacheDirectory::configured(config)? else {
        if let CacheAction::Warm { paths } = action {
            return warm(config, &paths).await;
        }
        output::line(format_args!("{name}: 0 nars, nothing has been kept there yet"));
        return Ok(());
    };
    match action {
        CacheAction::Stats => {
            let (nars, bytes) = stats(dir).map_err(failed)?;
            output::line(format_args!("{name}: {nars} nars, {} MiB of at most {} MiB", bytes >> 20, max_size >> 20));
        }
        CacheAction::Warm { paths } => warm(config, &paths).await?,
        CacheAction::Clear => output::line(format_args!("{name}: {} nars removed", clear(dir).map_err(failed)?)),
        CacheAction::Verify => {
            let (mut nars, mut corrupt) = (0, 0);
            for verdict in verify(dir).map_err(failed)? {
                nars += 1;
                if let Some(fault) = verdict.fault {
                    corrupt += 1;
                    output::line(format_args!("removed {}: {fault}", verdict.path.display()));
                }
                if nars % PROGRESS == 0 {
                    tracing::info!("{nars} nars read");
                }
            }
            output::line(format_args!("{name}: {nars} nars, {corrupt} of them were not what they should be"));
            if corrupt > 0 {
                return Err(Error::CorruptNars(corrupt));
            }
        }
    }
    Ok(())
}

async fn warm(config: &Config, paths: &[PathBuf]) -> Result<(), Error> {
    let Warmed { made, found, plain } = warm::run(config, paths).await?;
    output::line(format_args!("{made} nars made, {found} were there, {plain} are served as they are"));
    Ok(())
}
