//! `harmonia bucket pin`, `unpin` and `pins`: paths that the garbage collection of the bucket keeps under a name.

use std::time::Duration;

use serde::Serialize;

use super::failure::BucketFailure;
use super::place;
use crate::bucket::{BucketPinName, PinFile, pin as put_pin, pins, unpin as remove_pin};
use crate::cli::{BucketPin, BucketPins, BucketUnpin};
use crate::commands::server::user;
use crate::commands::store_paths::store_path;
use crate::commands::times::{ago, until};
use crate::config::Config;
use crate::error::Error;
use crate::output;
use crate::process::log::escape_controls;
use crate::store::unix_time;

/// A pin, as `--json` shows it.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    pin: PinFile,
}

/// Pins paths.
pub(super) async fn pin(config: &Config, options: &BucketPin) -> Result<(), Error> {
    let directory = &config.virtual_nix_store;
    let root = |path| Ok::<_, Error>(store_path(path, directory)?.base_name().to_owned());
    let roots = options.paths.iter().map(|path| root(path)).collect::<Result<_, _>>()?;
    let since = unix_time();
    let until = options.length.as_ref().map(|length| since + Duration::as_secs(length));
    let pin = PinFile { roots, since, until, by: user() };
    let missing = put(config, &options.name, &pin).await?;
    print(&options.name, &pin);
    match missing.first() {
        Some(path) => Err(BucketFailure::NotPublished(directory.full_path(path)).into()),
        None => Ok(()),
    }
}

async fn put(config: &Config, name: &str, pin: &PinFile) -> Result<Vec<harmonia_protocol::StorePath>, BucketFailure> {
    let (name, store) = (BucketPinName::parse(name)?, place::open(config).await?);
    Ok(put_pin(&store, &name, pin).await?)
}

/// Removes a pin.
pub(super) async fn unpin(config: &Config, options: &BucketUnpin) -> Result<(), Error> {
    remove(config, &options.name).await?;
    output::line(format_args!("{}: removed", options.name));
    Ok(())
}

async fn remove(config: &Config, name: &str) -> Result<(), BucketFailure> {
    let (pin, store) = (BucketPinName::parse(name)?, place::open(config).await?);
    if remove_pin(&store, &pin).await? { Ok(()) } else { Err(BucketFailure::NoSuchPin(name.to_owned())) }
}

/// Lists the pins.
pub(super) async fn list(config: &Config, options: &BucketPins) -> Result<(), Error> {
    let mut named = Vec::new();
    for (name, pin) in all(config).await? {
        match pin {
            Ok(pin) => named.push(Named { name, pin }),
            Err(cause) => tracing::error!("pin {name} cannot be read, so that bucket gc deletes nothing: {cause}"),
        }
    }
    if options.json {
        // Serialising numbers and texts cannot fail.
        output::line(serde_json::to_string(&named).unwrap_or_default());
    } else if named.is_empty() {
        output::line("nothing is pinned");
    } else {
        for Named { name, pin } in &named {
            print(name, pin);
        }
    }
    Ok(())
}

async fn all(config: &Config) -> Result<Vec<(String, Result<PinFile, String>)>, BucketFailure> {
    Ok(pins(&*place::open(config).await?).await?)
}

fn print(name: &str, pin: &PinFile) {
    let end = match pin.until {
        None => "for good".to_owned(),
        Some(end) if pin.is_in_force(unix_time()) => format!("for {} more", until(end)),
        Some(end) => format!("ended {}", ago(end)),
    };
    output::line(escape_controls(&format!("{name}: pinned {} by {}, {end}", ago(pin.since), pin.by)));
    for root in &pin.roots {
        output::line(format_args!("  {root}"));
    }
}
