//! `harmonia bucket status`: which hosts publish into the bucket, and how much is in it.

use serde::Serialize;

use super::failure::BucketFailure;
use super::place;
use crate::bucket::{Amount, Census, HostFile, hosts};
use crate::cli::BucketStatus;
use crate::commands::times::ago;
use crate::config::Config;
use crate::error::Error;
use crate::human_size::human_size;
use crate::output::{self, counted};

/// What is shown.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    endpoint: Option<String>,
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
        hosts: hosts(&store).await?,
        objects: Census::count(&store).await?,
    })
}

fn print(report: &Report) {
    let endpoint = report.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    output::line(format_args!("{}{endpoint}", report.url));
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
