//! Actions and arguments of `harmonia bucket`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use harmonia_protocol::signature::PublicKey;

use super::cache::PathArguments;
use crate::config::{BucketLocation, BucketUrlError, HttpUrl, HttpUrlError, duration};

/// Actions of `bucket`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum BucketAction {
    /// Publish store paths with all that they refer to, and wait until they are in the bucket
    ///
    /// Has the running server publish them before all else. Goes on if that restarts, and waits for as long as the bucket cannot
    /// be reached. Exit status: 0 if the paths are in the bucket, 65 if one of them cannot be published.
    Publish(BucketPublish),
    /// Show what waits to be published, which hosts publish into the bucket, and how much is in it
    ///
    /// Asks the running server, if there is one, how many paths wait and for how long. Lists the whole bucket: a request for each
    /// thousand objects.
    Status(BucketStatus),
    /// Delete from the bucket what nobody needs
    ///
    /// Keeps the closures of pins, of what hosts root, and of what was published or served within --keep. Narinfos are deleted
    /// at once, NARs by a run that is --keep-nars later. Takes some minutes; it can be stopped and run again.
    Gc(BucketGc),
    /// Keep paths and their closures in the bucket
    ///
    /// A pin of the same name is replaced. Paths that are not in the bucket are pinned too, and make the command fail.
    Pin(BucketPin),
    /// Remove a pin of the bucket
    Unpin(BucketUnpin),
    /// List the pins of the bucket
    Pins(BucketPins),
    /// Read what is in the bucket and prove it
    ///
    /// Checks who signed each narinfo, whether its references and its NAR are there, and reads the NAR, whose file has to have
    /// the hash in its name and whose contents that of the narinfo. Prints each fault. Shows a progress bar on a terminal. Exit
    /// status: 65 if there are faults.
    Verify(BucketVerify),
    /// Copy closures from any Nix binary cache into the bucket or a directory
    ///
    /// Copies what is missing of the closures of the paths in a file, so that clients of the target need no other cache. Files
    /// stay as the other cache has compressed them. Each narinfo has to be signed by a trusted key, and each NAR is proven.
    /// Listings are copied too, build logs are not. Shows a progress bar on a terminal. What was interrupted goes on when it is run again. Exit status: 65 if a path is
    /// missing.
    Mirror(BucketMirror),
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

/// Arguments of `bucket mirror`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketMirror {
    /// Cache to copy from: https://HOST, http://HOST, file:///DIRECTORY, or s3://BUCKET on the server of [bucket]
    #[arg(long, value_name = "URL")]
    pub from: MirrorSource,
    /// File with store paths, separated by white space and perhaps compressed by xz; - for standard input
    #[arg(long, value_name = "FILE")]
    pub store_paths: PathBuf,
    /// Directory or s3://BUCKET to copy to [default: the bucket of the configuration]
    #[arg(long, value_name = "URL|DIR")]
    pub to: Option<MirrorTarget>,
    /// Key of the other cache, as in trusted-public-keys of nix.conf [default: bucket.trusted_public_keys]
    #[arg(long, value_name = "KEY", value_parser = PublicKey::parse)]
    pub trusted_public_key: Vec<PublicKey>,
}

/// Binary cache to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorSource {
    /// By HTTP.
    Web(HttpUrl),
    /// An object store or a directory.
    Bucket(BucketLocation),
}

impl FromStr for MirrorSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Self::Web).map_err(|error: HttpUrlError| error.to_string());
        }
        text.parse().map(Self::Bucket).map_err(|error: BucketUrlError| error.to_string())
    }
}

/// Place to copy to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorTarget {
    /// A directory by its path.
    Directory(PathBuf),
    /// An object store or a directory by its URL.
    Bucket(BucketLocation),
}

impl FromStr for MirrorTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return text.parse().map(Self::Bucket).map_err(|error: BucketUrlError| error.to_string());
        }
        std::path::absolute(text).map(Self::Directory).map_err(|error| error.to_string())
    }
}

/// Arguments of `bucket gc`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BucketGc {
    /// Keep what was used or published within this time, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = duration, required_unless_present = "undo")]
    pub keep: Option<Duration>,
    /// Keep NARs for this time after their narinfos: as long as clients remember those
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30d")]
    pub keep_nars: Duration,
    /// Print the hash parts of the paths that would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Put back the paths that a run has deleted, whose number it has printed, if their NARs are still there
    #[arg(long, value_name = "RUN", conflicts_with_all = ["keep", "keep_nars", "dry_run"])]
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
