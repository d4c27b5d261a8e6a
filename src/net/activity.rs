//! What a connection is doing, and until when it may.
//!
//! A connection is new (no request yet), busy (a request in flight, or bytes of a response that the
//! socket does not take) or idle. Each has its deadline; progress moves the deadline of a busy one.
//! Progress is a body's chunk taken by hyper or a full socket that takes bytes again. Bytes written
//! are not: on HTTP/2 the pings are written while the client takes nothing of its responses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::limits::Limits;

/// The activity of one connection, shared by its socket, its bodies and its task.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose response is not yet wholly taken by hyper.
    in_flight: usize,
    /// Whether the socket has refused bytes and not taken any since.
    blocked: bool,
    /// Whether a request has ever come.
    served: bool,
    /// The last progress, or else the beginning.
    since: Instant,
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
    pub(super) fn new(accepted: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { in_flight: 0, blocked: false, served: false, since: accepted })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain numbers, whole whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head has come.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.served = true;
        state.since = Instant::now();
        InFlight(Arc::clone(self))
    }

    /// The socket takes no more bytes for now.
    pub(super) fn socket_blocked(&self) {
        self.state().blocked = true;
    }

    /// The socket has taken bytes.
    pub(super) fn socket_took(&self) {
        let mut state = self.state();
        if state.blocked {
            state.blocked = false;
            state.since = Instant::now();
        }
    }

    /// What `limits` say at the time `now`.
    pub(super) fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let state = self.state();
        let (limit, verdict) = if !state.served {
            (limits.first_request, Verdict::NoRequest)
        } else if state.in_flight > 0 || state.blocked {
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
}

/// A request in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    /// A chunk of the response was taken.
    pub(super) fn progress(&self) {
        self.0.state().since = Instant::now();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// The verdict that falls when `after` has passed since now.
    fn after(activity: &Activity, after: Duration) -> Verdict {
        activity.verdict(&Limits::default(), Instant::now() + after)
    }

    #[test]
    fn a_new_connection_has_until_its_first_request() {
        let activity = Activity::new(Instant::now());
        assert!(matches!(after(&activity, 29 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 30 * SECOND), Verdict::NoRequest);
        // A full socket before any request is no excuse.
        activity.socket_blocked();
        assert_eq!(after(&activity, 30 * SECOND), Verdict::NoRequest);
    }

    #[test]
    fn statement_52_a_response_that_nobody_takes_is_not_cut_for_5_minutes() {
        let activity = Activity::new(Instant::now());
        let request = activity.begin();
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 1801 * SECOND), Verdict::Stalled);
        // The rest of the response may lie in hyper's buffer, with the body gone.
        activity.socket_blocked();
        drop(request);
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        activity.socket_took();
        assert_eq!(after(&activity, 300 * SECOND), Verdict::Idle);
    }

    #[test]
    fn statement_53_an_idle_connection_stays_for_over_120_seconds() {
        let activity = Activity::new(Instant::now());
        drop(activity.begin());
        assert!(matches!(after(&activity, 149 * SECOND), Verdict::Wait(_)));
        assert_eq!(after(&activity, 151 * SECOND), Verdict::Idle);
    }

    #[test]
    fn a_busy_connection_is_looked_at_again_within_the_idle_time() {
        let activity = Activity::new(Instant::now());
        let _request = activity.begin();
        let (limits, now) = (Limits::default(), Instant::now());
        let Verdict::Wait(until) = activity.verdict(&limits, now) else {
            panic!("cut at once");
        };
        assert!(until <= now + limits.idle);
    }

    #[test]
    fn one_of_two_requests_keeps_the_connection_busy() {
        let activity = Activity::new(Instant::now());
        let (first, second) = (activity.begin(), activity.begin());
        drop(first);
        assert!(matches!(after(&activity, 300 * SECOND), Verdict::Wait(_)));
        drop(second);
        assert_eq!(after(&activity, 300 * SECOND), Verdict::Idle);
    }
}
