//! Limits on connections, and the settings of hyper that enforce some of them.
//!
//! hyper's `header_read_timeout` stays off. It starts when a response has been handed to hyper, so it includes both the idle
//! time between two requests and the time in which a slow client reads the end of its response: a value that suits heads cuts
//! pooled connections, and one that suits idle connections cuts slow readers. It also starts only once the version of HTTP is
//! known, which never happens with a silent client. `deadlines` has these timeouts instead.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::process::{Resource, getrlimit};

use crate::config::{Cidr, Config};

/// Maximum size of an HTTP/1 request head, and of the response buffer of hyper, in bytes. A Nix client sends less than 1 KiB;
/// each of thousands of connections may use this much.
const HEAD_BUFFER: usize = 16 * 1024;

/// Maximum size of a decoded HTTP/2 header list, in bytes (RFC 9113, section 6.5.2). hyper answers 431 above it.
const HEADER_LIST: u32 = 16 * 1024;

/// Maximum number of streams of one HTTP/2 connection. Nix has at most 125 active transfers.
const STREAMS: u32 = 128;

/// Send buffer of one HTTP/2 stream, in bytes.
const STREAM_SEND_BUFFER: usize = 256 * 1024;

/// Receive window for request bodies of an HTTP/2 connection, in bytes, if nothing can be pushed. No request needs a body then, so
/// this is the initial value of RFC 9113, section 6.9.2.
const RECEIVE_WINDOW: u32 = 65_535;

/// Receive window if paths can be pushed, in bytes, of a stream and of all streams of a connection together: 25 MB a second at a
/// round trip of 20 ms, where the initial value allows 3. With two pieces of it on their way to the disk, an upload takes less than
/// 4 MiB.
const UPLOAD_WINDOW: u32 = 512 << 10;

/// Streams that a client may open and reset before its connection is closed (CVE-2023-44487). The default of h2.
const PENDING_RESETS: usize = 20;

/// Streams that may be reset for a client's errors before its connection is closed (RUSTSEC-2024-0003). The default of hyper.
const ERROR_RESETS: usize = 1024;

/// Interval of HTTP/2 pings, which keep middleboxes from dropping the connection.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// File descriptors reserved for everything but connections being served: queued connections (512), files being served (256),
/// NARs being compressed (64), and others.
const OTHER_DESCRIPTORS: usize = 912;

/// Limits on the connections of all listeners together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum number of connections served at a time; further ones wait.
    pub max_connections: usize,
    /// Maximum number of connections of one client served at a time, if limited; further ones wait.
    pub max_connections_per_client: Option<usize>,
    /// Networks of trusted proxies.
    pub trusted_proxies: Vec<Cidr>,
    /// Receive window of an HTTP/2 connection, in bytes.
    pub receive_window: u32,
    /// Maximum time from accept until a connection is served.
    pub queue_timeout: Duration,
    /// Maximum time from when it is served to the end of the TLS handshake.
    pub handshake: Duration,
    /// Maximum time from when it is served to the end of the first request's head.
    pub first_request: Duration,
    /// Maximum time without a request in flight, up to the end of the next head. An idle connection is closed after one to two
    /// times this.
    pub idle: Duration,
    /// Maximum time in which the client reads nothing of a response.
    pub stall: Duration,
    /// Maximum time from the signal to stop to the end of the last response.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_client: None,
            trusted_proxies: Cidr::LOOPBACK.to_vec(),
            receive_window: RECEIVE_WINDOW,
            // Nix aborts a transfer after 300 s of silence.
            queue_timeout: Duration::from_secs(240),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(30),
            // libcurl reuses connections that were idle for up to 118 s.
            idle: Duration::from_secs(150),
            // Nix may pause a download for minutes while it unpacks another one.
            stall: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Returns the limits of a configuration. If the limit of open files allows fewer connections, that is the limit, and a
    /// warning is logged.
    #[must_use]
    pub(crate) fn from_config(config: &Config) -> Self {
        Self {
            max_connections: max_connections(config),
            max_connections_per_client: config.max_connections_per_client,
            trusted_proxies: config.trusted_proxies.clone(),
            receive_window: if config.push.is_some() { UPLOAD_WINDOW } else { RECEIVE_WINDOW },
            drain: config.shutdown_timeout,
            ..Self::default()
        }
    }

    /// Returns a connection builder with the limits that hyper enforces.
    pub(super) fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        // hyper's default of 100 header fields is kept: those are on the stack, any other number is on the heap.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(STREAM_SEND_BUFFER)
            .initial_stream_window_size(self.receive_window)
            .initial_connection_window_size(self.receive_window)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            // A client that does not read does not answer pings either, and must not be cut for that.
            .keep_alive_timeout(self.stall);
        builder
    }
}

fn max_connections(config: &Config) -> usize {
    let wanted = config.max_connections();
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(usize::MAX);
    let reserved = OTHER_DESCRIPTORS + config.max_metadata_connections + config.max_nar_connections;
    // If there are few, half of them are for connections.
    let most = limit.saturating_sub(reserved).max(limit / 2);
    if most < wanted {
        tracing::warn!(
            "limiting connections to {most} instead of {wanted}: the limit of open files is {limit}\n  help: raise it \
             (LimitNOFILE= in the unit, ulimit -Hn), or lower max_connections"
        );
    }
    most.min(wanted)
}
