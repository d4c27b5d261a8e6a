//! `harmonia check`: would it serve?

use std::path::Path;
use std::sync::Arc;

use crate::access_log::AccessLog;
use crate::config::{Config, NarSource};
use crate::error::Error;
use crate::nar_cache;
use crate::net::tls;
use crate::output;
use crate::signing::SigningKeys;
use crate::store::Store;

/// Looks at what a configuration file says, whatever is on this machine. All that is wrong is the error.
pub fn syntax(file: &Path) -> Result<(), Error> {
    for warning in Config::check_syntax(file)? {
        tracing::warn!("{warning}");
    }
    output::line(format_args!("{}: ok", file.display()));
    Ok(())
}

/// Looks at configuration, keys, certificate and daemon, in the order in which serving needs them, and prints what it
/// finds. The first thing that would keep it from serving is the error.
pub async fn run(config: &Config) -> Result<(), Error> {
    output::line(format_args!("configuration: ok, would listen on {}", config.bind));

    let keys = SigningKeys::load_and_warn(config)?;
    match keys.public_keys().count() {
        0 => output::line(format_args!("signing keys: none, narinfos would not be signed")),
        _ => keys.public_keys().for_each(|key| output::line(format_args!("signing key: ok, {key}"))),
    }
    output::line(format_args!("signing: {}", config.sign));
    if let Some(files) = &config.tls {
        tls::Identity::load(files, &config.store_directories())?;
        output::line(format_args!("tls: ok, {}", files.cert.display()));
    }

    if let Some(log) = &config.access_log {
        AccessLog::check(log)?;
        let place = log.file.as_ref().map_or_else(|| "standard output".into(), |file| file.to_string_lossy());
        output::line(format_args!("access log: ok, {place}"));
    }

    match nar_cache::off(config) {
        None => nar_cache::look(config)?.iter().for_each(|text| output::line(format_args!("compression: {text}"))),
        Some(why) => output::line(format_args!("compression: off, {why}")),
    }

    match config.real_nix_store.as_deref().map(|files| (files.display(), std::fs::read_dir(files))) {
        None => output::line(format_args!(
            "store files: not here, as far as is known; real_nix_store says where they are, if they are"
        )),
        Some((files, Ok(_))) => output::line(format_args!("store files: visible in {files}")),
        Some((files, Err(cause))) => {
            output::line(format_args!(
                "store files: not visible in {files} ({cause}), which only /serve and /debuginfo need"
            ));
        }
    }
    match &config.log_dir {
        None => output::line(format_args!(
            "build logs: not here, as far as is known; log_dir says where they are, if they are"
        )),
        Some(logs) => output::line(format_args!("build logs: looked for in {}", logs.display())),
    }

    let store = Store::new(config, &Arc::default())?;
    let session = store.session().await?;
    store.answers().await?;
    let trust = match session.trusted {
        Some(true) => "trusts us, which a cache does not need",
        Some(false) => "does not trust us, as it should be",
        None => "does not say whether it trusts us",
    };
    let release = session.release.as_deref().unwrap_or("of a release before 2.7");
    output::line(format_args!(
        "nix daemon: ok, {}: nix {release}, protocol {}, {trust}",
        config.daemon, session.version
    ));

    match store.any_path().await? {
        Some(valid) => {
            let path = store.directory().full_path(&valid.path);
            output::line(format_args!("path info: ok, {path} has a nar of {} bytes", valid.info.nar_size));
        }
        None => output::line(format_args!("path info: the store {} is empty", store.directory())),
    }
    match store.compare_files().await? {
        Some((valid, Ok(()))) => {
            output::line(format_args!(
                "nars: read from the store's files, those of {} are what the nix daemon says",
                valid.path
            ));
        }
        Some((valid, Err(why))) if config.nar_source == NarSource::Auto => {
            output::line(format_args!(
                "nars: read from the nix daemon, since the store's files of {} are not what it says: {why}",
                valid.path
            ));
        }
        Some((_, Err(why))) => return Err(why.into()),
        None => output::line(format_args!("nars: read from the nix daemon")),
    }
    Ok(())
}
