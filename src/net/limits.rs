//! The bounds on connections, and the settings of hyper that enforce some of them.
//!
//! hyper's own `header_read_timeout` stays off. It runs from the moment when a response has left
//! the program for hyper's buffer, so it counts the idle time between two requests as well as the
//! time in which a client that reads slowly takes the end of its response: set for heads it cuts
//! pooled connections, set for idleness it cuts slow readers. And it starts only after the version
//! of HTTP is known, which a silent client never lets happen. `connection` keeps these deadlines
//! instead.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::process::{Resource, getrlimit};

use crate::config::{Cidr, Config};

/// Bytes of an HTTP/1 request head, and of a response that hyper keeps ahead of the socket. A Nix
/// client sends under 1 KiB; of thousands of connections each may take this much.
const HEAD_BUFFER: usize = 16 * 1024;

/// Bytes of an HTTP/2 header list, decoded (RFC 9113, section 6.5.2); hyper answers 431 above it.
const HEADER_LIST: u32 = 16 * 1024;

/// Streams of one HTTP/2 connection: Nix keeps at most 125 transfers active.
const STREAMS: u32 = 128;

/// Bytes of a response that one HTTP/2 stream keeps ahead of its connection.
const STREAM_SEND_BUFFER: usize = 256 * 1024;

/// Bytes of a request body that a client may send ahead: no request has one, so the least that RFC
/// 9113, section 6.9.2 sets.
const RECEIVE_WINDOW: u32 = 65_535;

/// Streams which a client may open and reset before it is sent away (CVE-2023-44487): h2's own
/// bound.
const PENDING_RESETS: usize = 20;

/// Streams which may be reset for a client's errors before it is sent away (RUSTSEC-2024-0003):
/// hyper's own bound.
const ERROR_RESETS: usize = 1024;

/// How often an HTTP/2 connection is pinged, so that a middlebox on the way keeps it.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// Descriptors for all but connections that are served, where there are enough: connections that wait (512), files that are
/// served (256), NARs that are compressed (64), and what is read or listened to.
const OTHER_DESCRIPTORS: usize = 912;

/// Bounds on the connections of all listeners together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Connections of one client that are served at one time, if that is bounded; further ones wait.
    pub max_connections_per_client: Option<usize>,
    /// Where connections come from that are those of many clients.
    pub proxies: Vec<Cidr>,
    /// From accept until a connection is served.
    pub place: Duration,
    /// From when it is served to the end of the TLS handshake.
    pub handshake: Duration,
    /// From when it is served to the end of the first request's head.
    pub first_request: Duration,
    /// Without a request in flight, the time that the next head takes to arrive included. An idle
    /// connection is closed between one and two times this.
    pub idle: Duration,
    /// With a response that the client does not take at all.
    pub stall: Duration,
    /// From the signal to stop to the end of the last response.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_client: None,
            proxies: Cidr::LOOPBACK.to_vec(),
            // Nix gives up a transfer that has been silent for 300 s.
            place: Duration::from_secs(240),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(30),
            // libcurl reuses a connection that has been idle for up to 118 s.
            idle: Duration::from_secs(150),
            // Nix may pause a download for minutes while it unpacks another.
            stall: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// As `config` says, and by default what it does not. Where the limit of open files allows for fewer connections, those
    /// are they, and the log says so.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            max_connections: max_connections(config),
            max_connections_per_client: config.max_connections_per_client,
            proxies: config.trusted_proxies.clone(),
            drain: config.shutdown_timeout,
            ..Self::default()
        }
    }

    /// hyper's part of the bounds.
    pub(super) fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        // hyper's 100 header fields stay: they lie on the stack, any other number on the heap.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(STREAM_SEND_BUFFER)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            // A client that does not read answers no ping either, and must not be cut for that.
            .keep_alive_timeout(self.stall);
        builder
    }
}

fn max_connections(config: &Config) -> usize {
    let wanted = config.max_connections();
    // No limit is one that is not reached.
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(usize::MAX);
    let others = OTHER_DESCRIPTORS + config.max_metadata_connections + config.max_nar_connections;
    // Where there are few, half are for connections.
    let most = limit.saturating_sub(others).max(limit / 2);
    if most < wanted {
        tracing::warn!(
            "no more than {most} connections at a time, not {wanted}: the limit of open files is {limit}\n  help: raise it \
             (LimitNOFILE= in the unit, ulimit -Hn), or lower max_connections"
        );
    }
    most.min(wanted)
}
