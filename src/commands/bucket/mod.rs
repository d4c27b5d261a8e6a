//! `harmonia bucket`: publishes into the object store, and maintains it.
//!
//! Each action has a file. It gets what is configured, and opens the object store without the running server, but for `publish`.

pub(crate) mod failure;
mod gc;
mod mirror;
mod nar_proof;
mod pin;
mod place;
mod publish;
mod status;
#[cfg(test)]
mod test_bucket;
mod verify;

use crate::cli::BucketAction;
use crate::config::Config;
use crate::error::Error;

pub(super) use place::environment;

/// Runs an action.
pub(super) async fn run(config: Config, action: BucketAction) -> Result<(), Error> {
    match action {
        BucketAction::Mirror(options) => mirror::run(&config, &options).await,
        BucketAction::Publish(options) => publish::run(&config, options).await,
        BucketAction::Status(options) => status::run(&config, &options).await,
        BucketAction::Gc(options) => gc::run(&config, &options).await,
        BucketAction::Pin(options) => pin::pin(&config, &options).await,
        BucketAction::Unpin(options) => pin::unpin(&config, &options).await,
        BucketAction::Pins(options) => pin::list(&config, &options).await,
        BucketAction::Verify(options) => verify::run(&config, &options).await,
    }
}
