//! `harmonia bucket status`: what the running server has to publish, which hosts publish into the bucket, and how much is in it.

use serde::Serialize;

use super::failure::BucketFailure;
use super::place;
use crate::admin::{Client, Publishing};
use crate::bucket::{Amount, Census, HostFile, Refused, hosts};
use crate::cli::BucketStatus;
use crate::commands::times::ago;
use crate::config::Config;
use crate::error::Error;
use crate::human_size::human_size;
use crate::output::{self, counted};

/// Upper bound of the paths that are not published and shown to a person.
const MAX_FAILED: usize = 10;

/// Status that is shown.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    endpoint: Option<String>,
    /// Report of the running server; `None` if none is there, or it publishes nothing.
    server: Option<Publishing>,
    hosts: Vec<HostFile>,
    objects: Census,
}

/// Prints the status.
pub(super) async fn run(config: &Config, options: &BucketStatus) -> Result<(), Error> {
    let report = report(config).await?;
    if options.json {
        // Serialising numbers and texts cannot fail.
        output::line(serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(())
}

async fn report(config: &Config) -> Result<Report, BucketFailure> {
    let bucket = place::configured(config)?;
    let store = place::open(config).await?;
    Ok(Report {
        url: bucket.location.to_string(),
        endpoint: bucket.endpoint.as_ref().map(ToString::to_string),
        server: publishing(config).await,
        hosts: hosts(&store).await?,
        objects: Census::count(&store).await?,
    })
}

/// Asks the running server what it has to publish.
async fn publishing(config: &Config) -> Option<Publishing> {
    let server = Client::find(config.admin_socket.as_deref()).await;
    let asked = async { server?.get("/bucket/publishing").await };
    asked.await.inspect_err(|error| tracing::debug!("nothing is known of a running server: {error}")).ok()
}

fn print(report: &Report) {
    let endpoint = report.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    output::line(format_args!("{}{endpoint}", report.url));
    if let Some(Publishing { host, queued, lag, irreproducible, failed }) = &report.server {
        let waiting = if *queued == 0 { String::new() } else { format!(", the first for {lag} s") };
        let differ = counted(irreproducible.len() as u64, "path");
        output::line(format_args!(
            "the running server, {host}: {queued} queued{waiting}, {differ} built otherwise than in the bucket"
        ));
        for Refused { path, reason } in failed.iter().take(MAX_FAILED) {
            output::line(format_args!("  not published: {path}: {}", reason.replace('\n', "\n  ")));
        }
        if failed.len() > MAX_FAILED {
            output::line(format_args!("  and {} more, which --json lists", failed.len() - MAX_FAILED));
        }
    }
    output::line("");
    if report.hosts.is_empty() {
        output::line("no host has published yet");
    }
    for host in &report.hosts {
        let HostFile { release, encoding, seen, paths, queued, .. } = host;
        let (paths, name) = (counted(*paths, "path"), host.name());
        output::line(format_args!(
            "{name}: seen {}, published {paths}, {queued} queued, harmonia {release}, {encoding}",
            ago(*seen)
        ));
    }
    output::line("");
    for (name, Amount { objects, bytes }) in report.objects.kinds() {
        output::line(format_args!("{name:<17} {objects:>9}  {:>10}", human_size(*bytes)));
    }
}
