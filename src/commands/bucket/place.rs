//! The object store of the configuration, for a command.

use std::sync::Arc;

use super::failure::BucketFailure;
use crate::bucket::BucketStore;
use crate::commands::user::environment_of_service;
use crate::config::{BucketConfig, Config, Environment};
use crate::error::Error;
use crate::process::unit::SERVICE;

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
