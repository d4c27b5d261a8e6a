//! Activity of a connection, and the deadlines that follow from it.
//!
//! A connection is new (no request yet), busy (a request in flight, or bytes of a response that the socket does not accept) or
//! idle. Each state has its deadline. Bytes that the client reads, or sends of a request body, extend the deadline of a busy
//! connection in proportion, so a byte now and then does not keep it open. Bytes written do not count: on HTTP/2, pings are written while the client reads
//! nothing of its responses.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::Limits;
use super::send_queue::unacknowledged;
use crate::fairness::{Holder, ReadRate, Usage};
use crate::metrics::{ConnectionGauges, ConnectionState};
use crate::sync::Mutex;

/// Rate below which a client is cut once it has been this slow for the stall timeout, in bytes per second.
const MIN_RATE: u64 = 16 << 10;

/// Time for which a connection without a request counts as busy, since one may be on its way.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Activity of one connection, shared by its socket, its responses and its task.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    end_requested: Notify,
    gauges: ConnectionGauges,
}

#[derive(Debug)]
struct State {
    /// Requests whose response has not completely left the program.
    in_flight: usize,
    /// Those of them whose client waits for the server.
    server_busy: usize,
    /// Whether the socket is full.
    blocked: bool,
    /// Whether there has been a request.
    has_request: bool,
    /// Start of the current state, moved forward by progress.
    since: Instant,
    read_rate: ReadRate,
    /// Bytes written to the socket.
    written: u64,
    /// Bytes of request bodies that were received.
    received: u64,
    /// The open socket. Its owner clears this before closing it.
    socket: Option<RawFd>,
    end: Option<EndRequest>,
    counted_as: ConnectionState,
}

/// End of a connection because others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndRequest {
    /// Closed as its version of HTTP prescribes.
    Graceful,
    /// Closed at once.
    Abort,
}

/// Result of checking a connection's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// Earliest time of the deadline.
    Pending(Instant),
    /// The connection was idle for too long and should be closed.
    Idle,
    /// No request came in time: the connection should be cut.
    NoRequest,
    /// The client reads nothing: the connection should be cut.
    Stalled,
}

impl Activity {
    /// Creates the activity of a connection that waits to be served.
    pub(super) fn new(accepted: Instant, gauges: &ConnectionGauges) -> Arc<Self> {
        let state = State {
            in_flight: 0,
            server_busy: 0,
            blocked: false,
            has_request: false,
            since: accepted,
            read_rate: ReadRate::default(),
            written: 0,
            received: 0,
            socket: None,
            end: None,
            counted_as: ConnectionState::Waiting,
        };
        gauges.add(state.counted_as);
        Arc::new(Self { state: Mutex::new(state), end_requested: Notify::new(), gauges: gauges.clone() })
    }

    /// Updates the state, the clock of the read rate and the gauges.
    fn update<T>(&self, update: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.state.lock();
        let result = update(&mut state, now);
        if state.is_busy() && state.server_busy == 0 {
            state.read_rate.resume(now);
        } else {
            state.read_rate.pause(now);
        }
        let is = if state.is_busy() { ConnectionState::Active } else { ConnectionState::Idle };
        self.gauges.change(&mut state.counted_as, is);
        result
    }

    /// Records that the connection is served from now on.
    pub(super) fn served(&self) {
        self.update(|state, now| state.since = now);
    }

    /// Sets the socket, until [`Activity::clear_socket`].
    pub(super) fn set_socket(&self, socket: RawFd) {
        self.state.lock().socket = Some(socket);
    }

    /// Clears the socket, which is about to be closed.
    pub(super) fn clear_socket(&self) {
        self.state.lock().socket = None;
    }

    /// Records the head of a request.
    pub(super) fn request_started(&self) {
        self.update(|state, now| {
            state.in_flight += 1;
            state.server_busy += 1;
            state.has_request = true;
            state.since = now;
        });
    }

    /// Records that a response has left the program, and whether its client waited for the server until then.
    pub(super) fn request_ended(&self, was_server_busy: bool) {
        self.update(|state, now| {
            state.in_flight -= 1;
            state.server_busy -= usize::from(was_server_busy);
            state.since = now;
        });
    }

    /// Records that the client of one response begins or ceases to wait for the server.
    pub(super) fn server_busy(&self, is_busy: bool) {
        self.update(|state, now| {
            if is_busy {
                state.server_busy += 1;
            } else {
                state.server_busy -= 1;
                state.since = now;
            }
        });
    }

    /// Records that the client has read bytes of a response.
    pub(super) fn client_read(&self, bytes: u64) {
        self.state.lock().record_progress(bytes, Instant::now());
    }

    /// Records that the client has sent bytes of a request body.
    pub(super) fn client_sent(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.received += bytes;
        state.record_progress(bytes, Instant::now());
    }

    /// Records that the socket is full.
    pub(super) fn socket_blocked(&self) {
        if !self.state.lock().blocked {
            self.update(|state, _| state.blocked = true);
        }
    }

    /// Records bytes written to the socket.
    pub(super) fn bytes_written(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.written += bytes as u64;
        if state.blocked {
            drop(state);
            self.update(|state, now| {
                state.blocked = false;
                state.record_progress(bytes as u64, now);
            });
        }
    }

    /// Checks the deadline by `limits` at the time `now`.
    pub(super) fn deadline(&self, limits: &Limits, now: Instant) -> Deadline {
        let state = self.state.lock();
        let (limit, reached) = if !state.has_request {
            (limits.first_request, Deadline::NoRequest)
        } else if state.is_busy() {
            (limits.stall, Deadline::Stalled)
        } else {
            (limits.idle, Deadline::Idle)
        };
        let deadline = state.since + limit;
        if deadline <= now {
            reached
        } else {
            // A busy connection may soon be idle, of which the timer is not told.
            Deadline::Pending(deadline.min(now + limits.idle))
        }
    }

    /// Returns whether a response is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.state.lock().is_busy()
    }

    /// Returns the bytes that the client's end has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.state.lock().acknowledged()
    }

    /// Cuts the connection, whatever its state.
    pub(super) fn cut(&self) {
        self.request_end(EndRequest::Abort);
    }

    fn request_end(&self, end: EndRequest) {
        self.state.lock().end = Some(end);
        self.end_requested.notify_one();
    }

    /// Waits until the connection has to end because others wait. Cancel safe.
    pub(super) async fn end_requested(&self) -> EndRequest {
        loop {
            if let Some(end) = self.state.lock().end.take() {
                return end;
            }
            self.end_requested.notified().await;
        }
    }
}

impl State {
    const fn is_busy(&self) -> bool {
        self.in_flight > 0 || (self.blocked && self.has_request)
    }

    fn record_progress(&mut self, bytes: u64, now: Instant) {
        let worth = Duration::from_millis(bytes.saturating_mul(1000) / MIN_RATE);
        self.since = now.min(self.since + worth);
    }

    fn acknowledged(&self) -> u64 {
        self.written.saturating_sub(self.socket.map_or(0, unacknowledged))
    }
}

impl Holder for Activity {
    fn usage(&self, now: Instant) -> Usage {
        let mut state = self.state.lock();
        if !state.is_busy() {
            let is_recent = now.saturating_duration_since(state.since) < IDLE_AFTER;
            return if is_recent { Usage::Busy } else { Usage::Idle(state.since) };
        }
        let moved = state.acknowledged() + state.received;
        state.read_rate.usage(now, moved)
    }

    fn is_in_use(&self) -> bool {
        self.is_busy()
    }

    fn reclaim(&self) -> bool {
        self.request_end(if self.is_busy() { EndRequest::Abort } else { EndRequest::Graceful });
        true
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let counted_as = self.state.lock().counted_as;
        self.gauges.remove(counted_as);
    }
}

#[cfg(test)]
mod tests;
