//! The types of the admin socket's status, which are serialised as JSON.
//!
//! Durations and times are in seconds, sizes in bytes. Lists are bounded and have the total number of items.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::http::path_report::PathReport;
use crate::process::log::LogLine;
use crate::store::{HiddenPath, seconds_since_epoch};

/// The status of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the server.
    pub version: String,
    /// Process ID.
    pub pid: u32,
    /// Time since its start.
    pub uptime: u64,
    /// URLs on which it listens.
    pub listening: Vec<String>,
    /// Public keys of the signing keys.
    pub keys: Vec<String>,
    /// Expiry of the certificate in use, as Unix time; `None` without TLS.
    pub certificate_ends: Option<u64>,
    /// Status of nix-daemon.
    pub daemon: DaemonStatus,
    /// Requests of clients since the start.
    pub requests: Requests,
    /// Connections of clients.
    pub connections: Connections,
    /// Responses that are being sent from disk or nix-daemon, the largest first.
    pub sending: Listed<Sending>,
    /// NARs that are being compressed, or wait for an encoder.
    pub compressing: Listed<Compressing>,
    /// Path info cache in memory.
    pub narinfo_cache: NarinfoCache,
    /// NAR cache; `None` without one.
    pub nar_cache: Option<NarCache>,
    /// GC protection; `None` if it is off.
    pub gc_protection: Option<GcProtection>,
    /// Paths whose NAR failed verification, or is being verified after a failed read.
    pub quarantine: Listed<QuarantineEntry>,
    /// Number of times that each resource was reclaimed from idle or slow clients. Resources with 0 are omitted.
    pub reclaimed: BTreeMap<String, u64>,
    /// Last errors and warnings in the log, the newest first.
    pub errors: Listed<LoggedLine>,
}

/// The first items of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listed<T> {
    /// Number of all items.
    pub total: usize,
    /// First items.
    pub first: Vec<T>,
}

/// The result of probing nix-daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DaemonStatus {
    /// Socket or command by which it is reached.
    pub address: String,
    /// Whether it responded.
    pub is_up: bool,
    /// Time since it became available or unavailable, if known.
    pub since: Option<u64>,
    /// Response time in milliseconds.
    pub answered_in: f64,
    /// Reason why it is unavailable.
    pub error: Option<String>,
    /// Release of Nix.
    pub release: Option<String>,
    /// Negotiated version of the protocol.
    pub protocol: Option<String>,
    /// Connections by pool.
    pub connections: BTreeMap<String, DaemonConnections>,
}

/// One pool of connections to nix-daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonConnections {
    /// Connections in use.
    pub in_use: u64,
    /// Limit on connections.
    pub max: u64,
    /// Requests that wait for a connection.
    pub waiting: u64,
}

/// Requests of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Requests {
    /// Requests answered since the start.
    pub answered: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Bytes of bodies sent since the start.
    pub bytes_sent: u64,
}

/// Open connections of clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// Connections with a request in flight.
    pub active: u64,
    /// Connections without a request.
    pub idle: u64,
    /// Connections that wait to be served.
    pub waiting: u64,
    /// Connections by client, the largest number first.
    pub clients: Listed<ClientConnections>,
}

/// Connections of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientConnections {
    /// Address, IPv6 /64 network, or proxy.
    pub client: String,
    /// Connections that are served.
    pub connections: usize,
    /// Served connections with a request in flight.
    pub active: usize,
    /// Connections that wait to be served.
    pub waiting: usize,
}

/// A response that is being sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sending {
    /// Client that receives it.
    pub client: String,
    /// Path of the URL.
    pub url: String,
    /// Base name of the store path, if known.
    pub path: Option<String>,
    /// Bytes sent so far.
    pub sent: u64,
    /// Length in bytes, if known.
    pub length: Option<u64>,
    /// Bytes per second since the last status, or since its start.
    pub rate: u64,
    /// Time since its start.
    pub duration: f64,
}

/// A NAR that is being compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compressing {
    /// Base name of the path.
    pub path: String,
    /// Size of the NAR.
    pub nar_size: u64,
    /// Compressed bytes written so far.
    pub written: u64,
    /// Whether it waits for an encoder.
    pub is_waiting: bool,
    /// Time since the first request for it.
    pub duration: u64,
}

/// Path info cache in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NarinfoCache {
    /// Number of paths.
    pub entries: u64,
    /// Bytes used.
    pub bytes: u64,
    /// Limit in bytes.
    pub max_bytes: u64,
    /// Lookups answered from the cache since the start.
    pub hits: u64,
    /// Lookups answered by nix-daemon.
    pub misses: u64,
    /// Lookups answered with stale entries while nix-daemon was unavailable.
    pub stale: u64,
}

/// NAR cache on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NarCache {
    /// Directory.
    pub dir: PathBuf,
    /// Number of compressed NARs.
    pub entries: u64,
    /// Bytes used.
    pub bytes: u64,
    /// Limit in bytes.
    pub max_bytes: u64,
    /// Requests since the start for NARs in the cache.
    pub hits: u64,
    /// Requests for NARs that were being compressed.
    pub joined: u64,
    /// Requests for which a NAR was compressed.
    pub misses: u64,
    /// Requests answered uncompressed because the directory could not be used.
    pub bypassed: u64,
    /// Files removed because they were corrupt.
    pub corrupt: u64,
}

/// Protection of served paths from garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GcProtection {
    /// Time for which a path is protected after its narinfo was served.
    pub seconds: u64,
    /// Temporary GC roots in nix-daemon.
    pub roots: u64,
    /// Failed requests for GC roots since the start.
    pub failed: u64,
}

/// A path whose NAR failed verification or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantineEntry {
    /// Base name.
    pub path: String,
    /// Whether it is answered 404; otherwise it is only being verified.
    pub is_quarantined: bool,
    /// Failure of its NAR.
    pub reason: String,
    /// Time since the first failure.
    pub since: u64,
    /// Time until its NAR is verified again.
    pub next_try: u64,
}

/// A line in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedLine {
    /// Unix time.
    pub time: u64,
    /// `error` or `warning`.
    pub level: String,
    /// Text.
    pub message: String,
}

/// The report on one valid path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PathStatus {
    /// Path info, signatures and representations.
    #[serde(flatten)]
    pub(crate) report: PathReport,
    /// Unix time of the last request for it; `None` if none is remembered.
    pub last_requested: Option<u64>,
    /// Quarantine of the path, if its NAR failed verification.
    pub quarantine: Option<QuarantineEntry>,
    /// The hidden path because of which clients get a 404: itself, or one that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hidden_by: Option<HiddenPath>,
    /// Responses about it that are being sent, the largest first.
    pub sending: Listed<Sending>,
}

impl<T> Listed<T> {
    /// Takes at most `limit` items of `all`.
    pub(super) fn new(all: impl IntoIterator<Item = T>, limit: usize) -> Self {
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
