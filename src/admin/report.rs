//! The status of a running server, as the JSON of its admin socket.
//!
//! Times are seconds, before now or of the Unix epoch as their names say; sizes are bytes. Lists are bounded, and say how
//! many there are in all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::http::path_report::PathReport;
use crate::process::log::LogLine;

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The release of the server.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Time since its start.
    pub uptime: u64,
    /// The URLs that it listens on.
    pub listening: Vec<String>,
    /// The public keys that it signs with.
    pub keys: Vec<String>,
    /// The end of the certificate in use, in seconds of the Unix epoch; nothing without TLS.
    pub certificate_ends: Option<u64>,
    /// The daemon.
    pub daemon: DaemonStatus,
    /// Requests of clients since the start.
    pub requests: Requests,
    /// Connections of clients.
    pub connections: Connections,
    /// Responses on their way that come from disk or the daemon, the largest first.
    pub sending: Listed<Sending>,
    /// NARs that are being compressed, or wait for that.
    pub compressing: Listed<Compressing>,
    /// The cache of path infos in memory.
    pub narinfo_cache: NarinfoCache,
    /// Compressed NARs on disk; nothing where none are kept.
    pub nar_cache: Option<NarCache>,
    /// Paths that are kept from the garbage collector; nothing where none are.
    pub gc_protection: Option<GcLease>,
    /// Paths that are 404 because their NAR is not what the daemon says, or that are being looked at for that.
    pub quarantine: Listed<Quarantined>,
    /// Counts of what was taken back from idle or slow clients while others waited, by kind; zeros are left out.
    pub reclaimed: BTreeMap<String, u64>,
    /// The last errors and warnings of the log, the newest first.
    pub errors: Listed<LoggedLine>,
}

/// The first of a number of things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// The number of all of them.
    pub total: usize,
    /// The first of them.
    pub first: Vec<T>,
}

/// Whether nix-daemon answers, found out for this status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The socket or command by which it is reached.
    pub address: String,
    /// Whether it has answered now.
    pub is_up: bool,
    /// Time since it came up or went down, if that is known.
    pub since: Option<u64>,
    /// Milliseconds that its answer took.
    pub answered_in: f64,
    /// The reason why it does not answer.
    pub error: Option<String>,
    /// Its release, as it says.
    pub release: Option<String>,
    /// The version of the protocol that was agreed on.
    pub protocol: Option<String>,
    /// Connections to it, by what they are for.
    pub connections: BTreeMap<String, DaemonConnections>,
}

/// Connections to the daemon for one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonConnections {
    /// That are in use.
    pub in_use: u64,
    /// That there may be.
    pub max: u64,
    /// Requests that wait for one.
    pub waiting: u64,
}

/// Requests of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// That were answered since the start.
    pub answered: u64,
    /// That have not been answered to their end.
    pub in_flight: u64,
    /// Bytes of bodies that were sent since the start.
    pub bytes_sent: u64,
}

/// Open connections of clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// With a request in flight.
    pub active: u64,
    /// Without.
    pub idle: u64,
    /// That wait for their turn to be served.
    pub waiting: u64,
    /// By client, those with most of them first.
    pub clients: Listed<ClientConnections>,
}

/// Connections of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConnections {
    /// An address, an IPv6 network of 64 bits, or a proxy.
    pub client: String,
    /// That are served.
    pub connections: usize,
    /// Those of them with a request in flight.
    pub active: usize,
    /// That wait for their turn.
    pub waiting: usize,
}

/// A response on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sending {
    /// The client that it goes to.
    pub client: String,
    /// The path of the URL.
    pub url: String,
    /// The base name of the store path, if it is known.
    pub path: Option<String>,
    /// Bytes that have been handed to the client's connection.
    pub sent: u64,
    /// Bytes in all, if that is known.
    pub length: Option<u64>,
    /// Bytes per second since the last status, or else since it began.
    pub rate: u64,
    /// Time since it began.
    pub duration: f64,
}

/// A NAR that is being compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compressing {
    /// The base name of the path.
    pub path: String,
    /// The length of the NAR.
    pub nar_size: u64,
    /// Compressed bytes so far.
    pub written: u64,
    /// Whether it waits for its turn.
    pub is_waiting: bool,
    /// Time since it was asked for.
    pub duration: u64,
}

/// The cache of path infos in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarinfoCache {
    /// Paths.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Questions about paths that it answered since the start.
    pub hits: u64,
    /// That the daemon was asked.
    pub misses: u64,
    /// That it answered because the daemon did not.
    pub stale: u64,
}

/// Compressed NARs on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarCache {
    /// The directory.
    pub dir: PathBuf,
    /// NARs.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// NARs that were asked for since the start and were there.
    pub hits: u64,
    /// That were being made.
    pub joined: u64,
    /// That were made for it.
    pub misses: u64,
    /// That were sent uncompressed, since the directory could not be used.
    pub bypassed: u64,
    /// Files that were not what had been written.
    pub corrupt: u64,
}

/// Paths that are kept from the garbage collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcLease {
    /// Time that a path is kept after its narinfo was given out.
    pub seconds: u64,
    /// Temporary roots that the daemon holds.
    pub roots: u64,
    /// Paths for which there was no root since the start.
    pub failed: u64,
}

/// A path whose NAR was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The base name.
    pub path: String,
    /// Whether it is a 404; otherwise it is only being looked at.
    pub is_held: bool,
    /// The fault of its NAR.
    pub reason: String,
    /// Time since the fault was first seen.
    pub since: u64,
    /// In what time its NAR is read again.
    pub next_try: u64,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedLine {
    /// Seconds of the Unix epoch.
    pub time: u64,
    /// `error` or `warning`.
    pub level: String,
    /// Its text.
    pub message: String,
}

/// Everything about one valid path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The report on it: what nix-daemon says, and what this server makes of that.
    #[serde(flatten)]
    pub(crate) report: PathReport,
    /// The time of a client's last request for it, in seconds of the Unix epoch; nothing if that is not remembered.
    pub last_requested: Option<u64>,
    /// The reason why it is held back or in doubt, if it is.
    pub quarantine: Option<Quarantined>,
    /// Responses about it that are on their way, the largest first.
    pub sending: Listed<Sending>,
}

impl<T> Listed<T> {
    /// At most `limit` of `all`.
    pub(super) fn of(all: impl IntoIterator<Item = T>, limit: usize) -> Self {
        let mut all = all.into_iter();
        let first: Vec<_> = all.by_ref().take(limit).collect();
        Self { total: first.len() + all.count(), first }
    }
}

impl From<LogLine> for LoggedLine {
    fn from(line: LogLine) -> Self {
        Self {
            time: seconds_since_epoch(line.time),
            level: if line.is_error { "error" } else { "warning" }.to_owned(),
            message: line.message,
        }
    }
}

fn seconds_since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
