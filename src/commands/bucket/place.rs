//! The object store of the configuration, for a command.

use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StoreDir;

use super::failure::BucketFailure;
use crate::bucket::{BucketStore, ObjectName, Patience, Put, Replace};
use crate::commands::user::environment_of_service;
use crate::config::{BucketConfig, Config, Environment};
use crate::error::Error;
use crate::process::unit::SERVICE;

/// Upper bound of `nix-cache-info`, in bytes.
pub(super) const MAX_CACHE_INFO: usize = 64 << 10;

/// Returns the environment with the configuration file of the service, unless `own` names one. Root uses the credentials that
/// systemd has given to the running service too.
pub(crate) fn environment(own: &Environment) -> Result<Environment, Error> {
    let mut environment = environment_of_service(own)?;
    if own.config_file.is_none() && own.credentials_directory.is_none() {
        let directory = std::path::PathBuf::from(format!("/run/credentials/{SERVICE}.service"));
        environment.credentials_directory = directory.is_dir().then(|| directory.into_os_string());
    }
    Ok(environment)
}

/// Returns the settings of the object store.
pub(super) fn configured(config: &Config) -> Result<&BucketConfig, BucketFailure> {
    config.bucket.as_ref().ok_or(BucketFailure::NotConfigured)
}

/// Opens the object store of the configuration, without a request.
pub(super) async fn open(config: &Config) -> Result<Arc<BucketStore>, BucketFailure> {
    let store = BucketStore::open(configured(config)?, Arc::default()).await?;
    Ok(Arc::new(store))
}

/// Puts `nix-cache-info`, or checks the one that is there.
pub(super) async fn put_cache_info(store: &BucketStore, directory: &StoreDir) -> Result<(), BucketFailure> {
    let name = ObjectName::CacheInfo;
    let found = store.get(&name, MAX_CACHE_INFO, Patience::Background).await?;
    let Some(found) = found else {
        // What clients assume of a cache without a priority, and nearer than cache.nixos.org.
        let text = format!("StoreDir: {directory}\nWantMassQuery: 1\nPriority: 30\n");
        return match store.put(&name, Bytes::from(text), Replace::IfAbsent).await? {
            Put::Written | Put::Existed => Ok(()),
        };
    };
    let text = String::from_utf8_lossy(&found);
    match text.lines().find_map(|line| line.strip_prefix("StoreDir:")).map(str::trim) {
        Some(found) if found != directory.as_str() => {
            Err(BucketFailure::OtherStore { found: found.to_owned(), expected: directory.to_string() })
        }
        _ => Ok(()),
    }
}
