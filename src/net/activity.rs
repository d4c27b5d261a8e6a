//! What a connection is doing, until when it may, and what it is to do when others need its place.
//!
//! A connection is new (no request yet), busy (a request in flight, or bytes of a response that the
//! socket does not take) or idle. Each has its deadline; what the client takes moves the deadline of a busy one, by as long as
//! that may take: a byte now and then does not keep a connection. Bytes written are not taken: on HTTP/2 the pings are
//! written while the client takes nothing of its responses.

use std::os::fd::RawFd;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::Limits;
use super::send_queue::queued;
use crate::fairness::{Holder, ReadRate, Usage};
use crate::metrics::{ConnectionGauges, ConnectionState};
use crate::sync::Mutex;

/// A client that takes its responses at less than this for as long as it may pause is cut, in bytes per second.
const LEAST_RATE: u64 = 16 << 10;

/// A connection without a request in flight may be about to send one for this long.
const FRESH: Duration = Duration::from_secs(1);

/// The activity of one connection, shared by its socket, its responses and its task.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    told: Notify,
    connections: ConnectionGauges,
}

#[derive(Debug)]
struct State {
    /// Requests whose response has not wholly left the program.
    in_flight: usize,
    /// Those of them that the server is at work on.
    owed: usize,
    /// Whether the socket has refused bytes and not taken any since.
    blocked: bool,
    /// Whether a request has ever come.
    served: bool,
    /// The last progress, or else the beginning.
    since: Instant,
    read_rate: ReadRate,
    /// Bytes that the socket has taken.
    written: u64,
    /// As long as it is open: whoever owns it takes it out of here before it is closed.
    socket: Option<RawFd>,
    farewell: Option<Farewell>,
    counted: ConnectionState,
}

/// How a connection is to end because others need its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// In the way of its version of HTTP.
    Leave,
    /// At once.
    Cut,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before this time.
    Wait(Instant),
    /// It has been idle for too long: close it.
    Idle,
    /// No request came in time: cut it.
    NoRequest,
    /// Its client takes nothing: cut it.
    Stalled,
}

impl Activity {
    /// Of a connection that waits for its turn to be served.
    pub(super) fn new(accepted: Instant, connections: &ConnectionGauges) -> Arc<Self> {
        let state = State {
            in_flight: 0,
            owed: 0,
            blocked: false,
            served: false,
            since: accepted,
            read_rate: ReadRate::default(),
            written: 0,
            socket: None,
            farewell: None,
            counted: ConnectionState::Waiting,
        };
        connections.add(state.counted);
        Arc::new(Self { state: Mutex::new(state), told: Notify::new(), connections: connections.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain numbers, whole whatever panicked.
        self.state.lock()
    }

    /// Changes it, and enters what that makes of the connection.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.state();
        let changed = change(&mut state, now);
        if state.is_busy() && state.owed == 0 {
            state.read_rate.resume(now);
        } else {
            state.read_rate.pause(now);
        }
        let is = if state.is_busy() { ConnectionState::Active } else { ConnectionState::Idle };
        self.connections.change(&mut state.counted, is);
        changed
    }

    /// It is served from now on.
    pub(super) fn serve(&self) {
        self.change(|state, now| state.since = now);
    }

    /// The socket, until [`Activity::socket_closes`].
    pub(super) fn socket_opens(&self, socket: RawFd) {
        self.state().socket = Some(socket);
    }

    /// The socket is about to be closed.
    pub(super) fn socket_closes(&self) {
        self.state().socket = None;
    }

    /// A request's head has come.
    pub(super) fn begin(&self) {
        self.change(|state, now| {
            state.in_flight += 1;
            state.owed += 1;
            state.served = true;
            state.since = now;
        });
    }

    /// A response has left the program, on which the server was at work or not.
    pub(super) fn end(&self, was_owed: bool) {
        self.change(|state, now| {
            state.in_flight -= 1;
            state.owed -= usize::from(was_owed);
            state.since = now;
        });
    }

    /// The server has begun to be at work on one more response, or has ended.
    pub(super) fn owe(&self, is_owed: bool) {
        self.change(|state, now| {
            if is_owed {
                state.owed += 1;
            } else {
                state.owed -= 1;
                state.since = now;
            }
        });
    }

    /// The client has taken so much of a response.
    pub(super) fn took(&self, bytes: u64) {
        self.state().progress(bytes, Instant::now());
    }

    /// The socket takes no more bytes for now.
    pub(super) fn socket_blocked(&self) {
        if !self.state().blocked {
            self.change(|state, _| state.blocked = true);
        }
    }

    /// The socket has taken bytes.
    pub(super) fn socket_took(&self, bytes: usize) {
        let mut state = self.state();
        state.written += bytes as u64;
        if state.blocked {
            drop(state);
            self.change(|state, now| {
                state.blocked = false;
                state.progress(bytes as u64, now);
            });
        }
    }

    /// What `limits` say at the time `now`.
    pub(super) fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let state = self.state();
        let (limit, verdict) = if !state.served {
            (limits.first_request, Verdict::NoRequest)
        } else if state.is_busy() {
            (limits.stall, Verdict::Stalled)
        } else {
            (limits.idle, Verdict::Idle)
        };
        let deadline = state.since + limit;
        if deadline <= now {
            verdict
        } else {
            // A busy connection may be idle soon, and nobody calls then.
            Verdict::Wait(deadline.min(now + limits.idle))
        }
    }

    /// Whether a response is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.state().is_busy()
    }

    /// Bytes that the client's end has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.state().acknowledged()
    }

    /// Ends the connection, whatever it is doing.
    pub(super) fn cut(&self) {
        self.tell(Farewell::Cut);
    }

    fn tell(&self, farewell: Farewell) {
        self.state().farewell = Some(farewell);
        self.told.notify_one();
    }

    /// Waits until the connection has to end because others need its place. Cancel safe.
    pub(super) async fn farewell(&self) -> Farewell {
        loop {
            if let Some(farewell) = self.state().farewell.take() {
                return farewell;
            }
            self.told.notified().await;
        }
    }
}

impl State {
    const fn is_busy(&self) -> bool {
        self.in_flight > 0 || (self.blocked && self.served)
    }

    fn progress(&mut self, bytes: u64, now: Instant) {
        let worth = Duration::from_millis(bytes.saturating_mul(1000) / LEAST_RATE);
        self.since = now.min(self.since + worth);
    }

    fn acknowledged(&self) -> u64 {
        self.written.saturating_sub(self.socket.map_or(0, queued))
    }
}

impl Holder for Activity {
    fn usage(&self, now: Instant) -> Usage {
        let mut state = self.state();
        if !state.is_busy() {
            let is_fresh = now.saturating_duration_since(state.since) < FRESH;
            return if is_fresh { Usage::Busy } else { Usage::Idle(state.since) };
        }
        let taken = state.acknowledged();
        state.read_rate.usage(now, taken)
    }

    fn is_in_use(&self) -> bool {
        self.is_busy()
    }

    fn reclaim(&self) -> bool {
        self.tell(if self.is_busy() { Farewell::Cut } else { Farewell::Leave });
        true
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let counted = self.state().counted;
        self.connections.remove(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    fn activity() -> Arc<Activity> {
        Activity::new(Instant::now(), &Metrics::default().connections)
    }

    /// The verdict that falls when `after` has passed since now.
    fn after(activity: &Activity, after: Duration) -> Verdict {
        activity.verdict(&Limits::default(), Instant::now() + after)
    }

    #[test]
    fn a_new_connection_has_until_its_first_request() {
        let activity = activity();
        assert!(matches!(after(&activity, 29 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 30 * SECOND), Verdict::NoRequest);
        // A full socket before any request is no excuse.
        activity.socket_blocked();
        assert_eq!(after(&activity, 30 * SECOND), Verdict::NoRequest);
    }

    #[test]
    fn statement_52_a_response_that_nobody_takes_is_not_cut_for_5_minutes() {
        let activity = activity();
        activity.begin();
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 1801 * SECOND), Verdict::Stalled);
        // The rest of the response may lie in hyper's buffer, with the body gone.
        activity.socket_blocked();
        activity.end(true);
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        activity.socket_took(1 << 20);
        assert_eq!(after(&activity, 300 * SECOND), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_keep_a_connection() {
        let activity = activity();
        activity.begin();
        activity.owe(false);
        for _ in 0..4 {
            tokio::time::advance(500 * SECOND).await;
            activity.socket_blocked();
            activity.socket_took(1);
            activity.took(1);
        }
        assert_eq!(after(&activity, Duration::ZERO), Verdict::Stalled);
        // What is taken faster does.
        activity.took(40 << 20);
        assert!(matches!(after(&activity, 1799 * SECOND), Verdict::Wait(_)));
    }

    #[test]
    fn statement_53_an_idle_connection_stays_for_over_120_seconds() {
        let activity = activity();
        activity.begin();
        activity.end(true);
        assert!(matches!(after(&activity, 149 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 151 * SECOND), Verdict::Idle);
    }

    #[test]
    fn a_busy_connection_is_looked_at_again_within_the_idle_time() {
        let activity = activity();
        activity.begin();
        let (limits, now) = (Limits::default(), Instant::now());
        let Verdict::Wait(until) = activity.verdict(&limits, now) else {
            panic!("the connection is busy");
        };
        assert!(until <= now + limits.idle);
    }

    #[test]
    fn one_of_two_requests_keeps_the_connection_busy() {
        let activity = activity();
        activity.begin();
        activity.begin();
        activity.end(true);
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        activity.end(true);
        assert_eq!(after(&activity, 300 * SECOND), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_leaves_and_a_busy_one_is_cut() {
        let activity = activity();
        let now = Instant::now();
        assert_eq!(activity.usage(now), Usage::Busy);
        assert_eq!(activity.usage(now + FRESH), Usage::Idle(now));
        assert!(activity.reclaim());
        assert_eq!(activity.farewell().await, Farewell::Leave);
        activity.begin();
        assert_eq!(activity.usage(now + 10 * FRESH), Usage::Busy);
        activity.owe(false);
        for (after, usage) in [(20, Usage::Busy), (23, Usage::Reading(0))] {
            assert_eq!(activity.usage(now + after * SECOND), usage);
        }
        assert!(activity.reclaim());
        assert_eq!(activity.farewell().await, Farewell::Cut);
    }
}
