//! `harmonia bucket publish`: has the running server publish paths with their closures, and waits until they are in the bucket.

use std::time::Duration;

use harmonia_protocol::HashPart;
use hyper::StatusCode;

use super::failure::BucketFailure;
use crate::admin::{Client, ClientError};
use crate::bucket::PublishProgress;
use crate::cli::BucketPublish;
use crate::commands::progress::{self, Bar};
use crate::commands::store_paths;
use crate::config::Config;
use crate::error::Error;
use crate::human_size::human_size;
use crate::output::{self, counted};

/// Paths in one request, which stays below the server's limit with them.
const BATCH: usize = 10_000;

/// Longest restart of the server that is waited for, in seconds.
const RESTART_SECONDS: u32 = 60;

/// Publishes the paths. Fails if one of them is refused.
pub(super) async fn run(config: &Config, options: BucketPublish) -> Result<(), Error> {
    let hashes = store_paths::hash_parts(&options.paths.into(), &config.virtual_nix_store)?;
    let server = Client::find(config.admin_socket.as_deref()).await?;
    let (mut sent, mut refused, bar) = (0, 0, progress::bar(0, 0));
    for batch in hashes.chunks(BATCH) {
        let progress = publish(&server, batch, &bar).await?;
        sent += progress.sent;
        refused += progress.refused.len();
        for it in &progress.refused {
            tracing::error!("not publishing {}: {}", it.path, it.reason);
        }
    }
    drop(bar);
    if refused > 0 {
        return Err(BucketFailure::Refused(refused).into());
    }
    let paths = counted(hashes.len() as u64, "path");
    output::line(format_args!("published {paths} with all that they refer to, {} sent", human_size(sent)));
    Ok(())
}

/// Publishes paths, through restarts of the server.
async fn publish(server: &Client, paths: &[HashPart], bar: &Bar) -> Result<PublishProgress, ClientError> {
    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    let mut number: Option<u64> = Some(server.post("/bucket/publish", &paths).await?);
    let (mut waiting_for, mut away) = (None::<String>, 0);
    loop {
        let answer = match number {
            Some(number) => server.post("/bucket/published", &number).await.map(Some),
            None => server.post("/bucket/publish", &paths).await.map(|new| {
                number = Some(new);
                None
            }),
        };
        let progress: Option<PublishProgress> = match answer {
            Err(error @ (ClientError::NoServer { .. } | ClientError::Failed { .. })) if away < RESTART_SECONDS => {
                if away == 0 {
                    tracing::warn!("waiting {RESTART_SECONDS} s for the server to come back: {error}");
                }
                away += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            // It has restarted. What it has published is found, so that nothing is sent twice.
            Err(ClientError::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                number = None;
                continue;
            }
            answer => answer?,
        };
        away = 0;
        let Some(progress) = progress else { continue };
        bar.set(progress.paths_done, progress.paths, progress.nar_bytes_done, progress.nar_bytes);
        if progress.left == 0 {
            return Ok(progress);
        }
        if let Some(why) = progress.waiting_for.as_ref().filter(|why| waiting_for.as_ref() != Some(why)) {
            tracing::warn!("waiting: {why}");
        }
        waiting_for = progress.waiting_for.or(waiting_for);
    }
}
