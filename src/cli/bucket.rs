//! Actions and arguments of `harmonia bucket`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::cache::PathArguments;
use crate::config::duration;

/// Actions of `bucket`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum BucketAction {
    /// Show which hosts publish into the bucket, and how much is in it
    ///
    /// Lists the whole bucket: a request for each thousand objects.
    Status(BucketStatus),
    /// Delete from the bucket what nobody needs
    ///
    /// Keeps the closures of pins, of what hosts root, and of what was published or served within --keep. Narinfos are deleted
    /// at once, NARs 30 days later. Takes some minutes; it can be stopped and run again.
    Gc(BucketGc),
    /// Keep paths and their closures in the bucket
    ///
    /// A pin of the same name is replaced. Paths that are not in the bucket are pinned too, and make the command fail.
    Pin(BucketPin),
    /// Remove a pin of the bucket
    Unpin(BucketUnpin),
    /// List the pins of the bucket
    Pins(BucketPins),
}

/// Arguments of `bucket publish`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketPublish {
    /// Store paths, whose closures are published.
    #[command(flatten)]
    pub paths: PublishedPaths,
}

/// Store paths to publish.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PublishedPaths {
    /// Store paths or links to them.
    #[arg(required_unless_present = "stdin", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also read paths from standard input, separated by white space.
    #[arg(long)]
    pub stdin: bool,
}

impl From<PublishedPaths> for PathArguments {
    fn from(PublishedPaths { paths, stdin }: PublishedPaths) -> Self {
        Self { paths, stdin, recursive: true }
    }
}

/// Arguments of `bucket status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketStatus {
    /// Print JSON, with sizes in bytes and times in seconds since 1970.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bucket verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketVerify {
    /// Verify this many paths, chosen at random, instead of all
    #[arg(long, value_name = "NUMBER")]
    pub sample: Option<usize>,
}

/// Arguments of `bucket gc`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketGc {
    /// Keep what was used or published within this time, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = duration, required_unless_present = "undo")]
    pub keep: Option<Duration>,
    /// Print the hash parts of the paths that would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put back the paths that a run has deleted, whose number it has printed, if their NARs are still there
    #[arg(long, value_name = "RUN", conflicts_with_all = ["keep", "dry_run"])]
    pub undo: Option<u32>,
}

/// Arguments of `bucket pin`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketPin {
    /// Name of the pin: A-Z, a-z, 0-9, ., _ and -
    pub name: String,
    /// Store paths or links to them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Remove the pin after a time, such as 30d, 12h or 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<Duration>,
}

/// Arguments of `bucket unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketUnpin {
    /// Name of the pin
    pub name: String,
}

/// Arguments of `bucket pins`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketPins {
    /// Print a JSON array, with times in seconds since 1970.
    #[arg(long)]
    pub json: bool,
}
