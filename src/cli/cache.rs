//! Actions and arguments of `harmonia cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Actions of `cache`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CacheAction {
    /// Print the number of NARs and their total size
    Stats,
    /// List the NARs with their sizes, compressed sizes, times of last use, and store paths
    ///
    /// For a NAR that was never requested, the time is that of its creation. The store path is the one it was compressed for;
    /// other paths may have the same NAR.
    List {
        /// Sort order, largest first (names: A to Z).
        #[arg(long, value_name = "ORDER", value_enum, default_value_t = ListOrder::Size)]
        sort: ListOrder,
        /// Print a JSON array, with sizes in bytes and times in seconds since 1970.
        #[arg(long)]
        json: bool,
    },
    /// Read and verify every NAR, and remove corrupt ones
    ///
    /// Exit status: 65 if any were corrupt.
    Verify,
    /// Remove all NARs; they are compressed again when they are requested
    Clear,
    /// Compress the NARs of store paths before they are requested
    ///
    /// The running server does so, asked over its admin socket; if none runs, this process does. Shows a progress bar on a
    /// terminal. Exit status: 65 if a path is not valid, 69 if a NAR is unavailable.
    Warm {
        /// Store paths.
        #[command(flatten)]
        paths: PathArguments,
        /// Queue the paths in the running server and return at once
        ///
        /// Suitable for Nix's post-build-hook. If the server's queue is full, waits for up to ten seconds. Exit status: 69 if
        /// some paths were not queued, or if no server runs.
        #[arg(long)]
        background: bool,
    },
    /// Remove the NARs of store paths; they are compressed again when they are requested
    ///
    /// A path that is no longer valid is found by its name.
    Remove {
        /// Store paths.
        #[command(flatten)]
        paths: PathArguments,
    },
}

/// Store paths as arguments.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PathArguments {
    /// Store paths or links to them.
    #[arg(required_unless_present = "stdin", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Include their closures.
    #[arg(long, short)]
    pub recursive: bool,
    /// Also read paths from standard input, separated by white space.
    #[arg(long)]
    pub stdin: bool,
}

/// Sort order of `cache list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListOrder {
    /// Compressed size.
    Size,
    /// Size of the NAR.
    NarSize,
    /// Compression ratio.
    Ratio,
    /// Time of last use.
    Used,
    /// Name of the store path, after its hash.
    Name,
}
