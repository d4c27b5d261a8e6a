//! `harmonia check`: tests whether the server could start and serve with a configuration.

mod access;
#[cfg(feature = "bucket")]
mod bucket;
mod certificate;
mod listening;
mod report;
mod unit;
mod views;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use report::Report;
use rustix::fs::{Access, AtFlags, CWD, accessat};

pub(super) use unit::run as unit;

use crate::access_log::AccessLog;
use crate::audit_log::AuditLog;
use crate::config::{Config, NarSource};
use crate::error::Error;
use crate::fairness::ClientId;
use crate::nar_cache::{self, DirectoryError};
use crate::output;
use crate::signing::SigningKeys;
use crate::store::{NarOptions, PinError, Store, StoreError, ValidPath};

/// Limit on the paths among which one with a small NAR is searched.
const CANDIDATES: usize = 32;
/// Size up to which a NAR is small enough, in bytes.
const SMALL_NAR: u64 = 16 << 20;

/// Checks a configuration file alone, without looking at this machine. The error lists all mistakes.
pub(super) fn syntax(file: &Path) -> Result<(), Error> {
    for warning in Config::check_syntax(file)? {
        tracing::warn!("{warning}");
    }
    output::line(format_args!("{}: ok", file.display()));
    Ok(())
}

/// Checks configuration, keys, certificate, directories and nix-daemon as the server would use them, and prints the findings.
/// Checks the address too if `listening`. Problems are logged as they are found; the error has the exit status of the first.
pub(super) async fn run(config: &Config, listening: bool) -> Result<(), Error> {
    let mut report = Report::default();
    Report::line(format_args!("configuration: ok, would listen on {}", config.bind));
    if listening {
        listening::check(config, &mut report).await;
    }
    signing_keys(config, &mut report);
    Report::line(format_args!("signing: {}", config.sign));
    certificate::check(config, &mut report);
    access::check(config, &mut report);
    access_log(config, &mut report);
    audit_log(config, &mut report);
    directories(config, &mut report);
    #[cfg(feature = "bucket")]
    bucket::check(config, &mut report).await;
    let store = Store::new(config, &Arc::default());
    hidden(&store, &mut report);
    views::check(config, &store);
    let asked = daemon(config, &store, &mut report).await;
    report.ok(asked);
    report.finish()
}

/// Checks each key separately, so that one bad key does not hide others.
fn signing_keys(config: &Config, report: &mut Report) {
    if let Ok(keys) = SigningKeys::load_and_warn(config) {
        if config.sign_key_paths.is_empty() {
            Report::line(format_args!("signing keys: none, narinfos would not be signed"));
        }
        return keys.public_keys().for_each(|key| Report::line(format_args!("signing key: ok, {key}")));
    }
    let credentials = config.credentials_directory.as_deref();
    let stores = config.store_directories();
    let load = |paths: &[_]| SigningKeys::load(paths, credentials, &stores);
    let mut all_are_good = true;
    for path in &config.sign_key_paths {
        all_are_good &= report.ok(load(std::slice::from_ref(path))).is_some();
    }
    if all_are_good {
        report.ok(load(&config.sign_key_paths));
    }
}

fn access_log(config: &Config, report: &mut Report) {
    let Some(log) = &config.access_log else { return };
    if report.ok(AccessLog::check(log)).is_some() {
        let place = log.file.as_ref().map_or_else(|| "standard output".into(), |file| file.to_string_lossy());
        Report::line(format_args!("access log: ok, {place}"));
    }
}

fn audit_log(config: &Config, report: &mut Report) {
    let Some(log) = &config.audit else { return };
    if report.ok(AuditLog::check(log)).is_some() {
        let place = log.file.as_ref().map_or_else(|| "the log".into(), |file| file.to_string_lossy());
        Report::line(format_args!("audit log: ok, {place}"));
    }
}

fn directories(config: &Config, report: &mut Report) {
    match nar_cache::disabled_reason(config) {
        None => {
            let looked = nar_cache::preflight(config).and_then(|texts| writable(config).map(|()| texts));
            for text in report.ok(looked).unwrap_or_default() {
                Report::line(format_args!("compression: {text}"));
            }
        }
        Some(why) => Report::line(format_args!("compression: off, {why}")),
    }
    match config.real_nix_store.as_deref().map(|files| (files.display(), std::fs::read_dir(files))) {
        None => {
            Report::line(format_args!("store files: location unknown; set real_nix_store if they are on this machine"));
        }
        Some((files, Ok(_))) => Report::line(format_args!("store files: visible in {files}")),
        Some((files, Err(cause))) => Report::line(format_args!(
            "store files: not visible in {files} ({cause}): NARs are read from nix-daemon, /serve and /debuginfo answer 404"
        )),
    }
    match &config.build_log_dir {
        None => {
            Report::line(format_args!("build logs: location unknown; set build_log_dir if they are on this machine"));
        }
        Some(logs) => Report::line(format_args!("build logs: read from {}", logs.display())),
    }
}

/// Checks that this user can write to the NAR cache directory, or create it.
fn writable(config: &Config) -> Result<(), DirectoryError> {
    let Some(dir) = config.nar_cache.as_ref().map(|cache| &cache.dir) else { return Ok(()) };
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    accessat(CWD, existing, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|cause| DirectoryError::Io { path: existing.to_owned(), cause: cause.into() })
}

/// Reads the hidden paths.
fn hidden(store: &Store, report: &mut Report) {
    if report.ok(store.load_hidden()).is_some() && store.has_hidden() {
        Report::line(format_args!("hidden: {}", output::counted(store.hidden().len() as u64, "path")));
    }
}

/// Queries nix-daemon as the server does, and reads one whole NAR.
async fn daemon(config: &Config, store: &Store, report: &mut Report) -> Result<(), StoreError> {
    if !store.has_daemon() {
        Report::line(format_args!("nix-daemon: {}: only paths of other hosts are served", config.daemon));
        return Ok(());
    }
    let session = store.session().await?;
    store.probe().await?;
    let trust = match session.trusted {
        Some(true) => "harmonia is a trusted user (not needed; consider removing it from trusted-users)",
        Some(false) => "harmonia is not a trusted user (as recommended)",
        None => "whether harmonia is a trusted user is unknown",
    };
    let release = session.release.as_deref().unwrap_or("older than 2.7");
    Report::line(format_args!(
        "nix-daemon: ok, {}: Nix {release}, protocol {}, {trust}",
        config.daemon, session.version
    ));
    let Some(valid) = small_path(store).await? else {
        Report::line(format_args!("path info: the store {} is empty", store.directory()));
        return Ok(());
    };
    let path = store.directory().full_path(&valid.path);
    Report::line(format_args!("path info: ok, {path} has a NAR of {} bytes", valid.info.nar_size));
    pins(store, &valid).await;
    match store.compare_files().await? {
        Some((valid, Ok(()))) => Report::line(format_args!(
            "NARs: read from the store's files; those of {} match nix-daemon's path info",
            valid.path
        )),
        Some((valid, Err(why))) if config.nar_source == NarSource::Auto => Report::line(format_args!(
            "NARs: read from nix-daemon, since the store's files of {} do not match its path info: {why}",
            valid.path
        )),
        Some((_, Err(why))) => report.problem(why),
        None => Report::line(format_args!("NARs: read from nix-daemon")),
    }
    let mut nar = store.nar(&valid, NarOptions::for_cache(), ClientId::Server).await?;
    while nar.chunk().await?.is_some() {}
    Report::line(format_args!("NAR: ok, that of {path} has the size and the hash of its path info"));
    Ok(())
}

/// Pins a path for a moment, to see whether nix-daemon sees the directory. The cache serves without.
async fn pins(store: &Store, valid: &ValidPath) {
    match store.probe_pins(&valid.path).await {
        Ok(None) => {}
        Ok(Some(directory)) => Report::line(format_args!("pins: ok, nix-daemon sees {}", directory.display())),
        Err(PinError::Directory { path, cause }) if cause.kind() == ErrorKind::NotFound => {
            Report::line(format_args!("pins: unknown, {} does not exist yet", path.display()));
        }
        Err(error) => tracing::warn!("harmonia pin would not work: {error}"),
    }
}

/// Finds a path with a small NAR, or the smallest among [`CANDIDATES`]; `None` in an empty store.
async fn small_path(store: &Store) -> Result<Option<Arc<ValidPath>>, StoreError> {
    let mut smallest: Option<Arc<ValidPath>> = None;
    for hash in store.all_hash_parts().await?.into_iter().take(CANDIDATES) {
        let Some(valid) = store.valid_path(hash, ClientId::Server).await? else { continue };
        if smallest.as_ref().is_none_or(|other| valid.info.nar_size < other.info.nar_size) {
            smallest = Some(valid);
        }
        if smallest.as_ref().is_some_and(|valid| valid.info.nar_size <= SMALL_NAR) {
            break;
        }
    }
    Ok(smallest)
}
