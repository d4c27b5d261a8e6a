//! `harmonia check`: would it serve?

#![allow(clippy::print_stdout, reason = "the findings are this command's output, not its log")]

use std::sync::Arc;

use crate::config::{Config, NarSource};
use crate::error::Error;
use crate::nar_cache;
use crate::net::tls;
use crate::signing::SigningKeys;
use crate::store::Store;

/// Looks at configuration, keys, certificate and daemon, in the order in which serving needs them, and prints what it
/// finds. The first thing that would keep it from serving is the error.
pub async fn run(config: &Config) -> Result<(), Error> {
    println!("configuration: ok, would listen on {}", config.bind);

    let keys = SigningKeys::load_and_warn(&config.sign_key_paths, config.credentials_directory.as_deref())?;
    match keys.public_keys().count() {
        0 => println!("signing keys: none, narinfos would not be signed"),
        _ => keys.public_keys().for_each(|key| println!("signing key: ok, {key}")),
    }
    println!("signing: {}", config.sign);
    if let Some(files) = &config.tls {
        tls::Identity::load(&files.cert, &files.key)?;
        println!("tls: ok, {}", files.cert.display());
    }

    match nar_cache::off(config) {
        None => nar_cache::look(config)?.iter().for_each(|text| println!("compression: {text}")),
        Some(why) => println!("compression: off, {why}"),
    }

    match config.real_nix_store.as_deref().map(|files| (files.display(), std::fs::read_dir(files))) {
        None => println!("store files: not here, as far as is known; real_nix_store says where they are, if they are"),
        Some((files, Ok(_))) => println!("store files: visible in {files}"),
        Some((files, Err(cause))) => {
            println!("store files: not visible in {files} ({cause}), which only /serve and /debuginfo need");
        }
    }
    match &config.log_dir {
        None => println!("build logs: not here, as far as is known; log_dir says where they are, if they are"),
        Some(logs) => println!("build logs: looked for in {}", logs.display()),
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
    println!("nix daemon: ok, {}: nix {release}, protocol {}, {trust}", config.daemon, session.version);

    match store.any_path().await? {
        Some(valid) => {
            let path = store.directory().full_path(&valid.path);
            println!("path info: ok, {path} has a nar of {} bytes", valid.info.nar_size);
        }
        None => println!("path info: the store {} is empty", store.directory()),
    }
    match store.compare_files().await? {
        Some((valid, Ok(()))) => {
            println!("nars: read from the store's files, those of {} are what the nix daemon says", valid.path);
        }
        Some((valid, Err(why))) if config.nar_source == NarSource::Auto => {
            println!(
                "nars: read from the nix daemon, since the store's files of {} are not what it says: {why}",
                valid.path
            );
        }
        Some((_, Err(why))) => return Err(why.into()),
        None => println!("nars: read from the nix daemon"),
    }
    Ok(())
}
