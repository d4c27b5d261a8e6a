use super::*;
use crate::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);

fn activity() -> Arc<Activity> {
    Activity::new(Instant::now(), &Metrics::default().connections)
}

/// Checks the deadline when `after` has passed.
fn after(activity: &Activity, after: Duration) -> Deadline {
    activity.deadline(&Limits::default(), Instant::now() + after)
}

#[test]
fn a_new_connection_has_until_its_first_request() {
    let activity = activity();
    assert!(matches!(after(&activity, 29 * SECOND), Deadline::Pending(_)));
    assert_eq!(after(&activity, 30 * SECOND), Deadline::NoRequest);
    // A full socket before any request is no excuse.
    activity.socket_blocked();
    assert_eq!(after(&activity, 30 * SECOND), Deadline::NoRequest);
}

#[test]
fn statement_52_a_response_that_nobody_takes_is_not_cut_for_5_minutes() {
    let activity = activity();
    activity.request_started();
    assert!(matches!(after(&activity, 300 * SECOND), Deadline::Pending(_)));
    assert_eq!(after(&activity, 1801 * SECOND), Deadline::Stalled);
    // The rest of the response may lie in hyper's buffer, with the body gone.
    activity.socket_blocked();
    activity.request_ended(true);
    assert!(matches!(after(&activity, 300 * SECOND), Deadline::Pending(_)));
    activity.bytes_written(1 << 20);
    assert_eq!(after(&activity, 300 * SECOND), Deadline::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_keep_a_connection() {
    let activity = activity();
    activity.request_started();
    activity.server_busy(false);
    for _ in 0..4 {
        tokio::time::advance(500 * SECOND).await;
        activity.socket_blocked();
        activity.bytes_written(1);
        activity.client_read(1);
    }
    assert_eq!(after(&activity, Duration::ZERO), Deadline::Stalled);
    // What is taken faster does.
    activity.client_read(40 << 20);
    assert!(matches!(after(&activity, 1799 * SECOND), Deadline::Pending(_)));
}

#[tokio::test(start_paused = true)]
async fn an_upload_keeps_its_connection_for_as_long_as_it_goes_on() {
    let activity = activity();
    activity.request_started();
    for _ in 0..4 {
        tokio::time::advance(1000 * SECOND).await;
        activity.client_sent(40 << 20);
    }
    assert!(matches!(after(&activity, 1799 * SECOND), Deadline::Pending(_)));
    // While the server waits for it, its rate is that of the connection.
    activity.server_busy(false);
    let now = Instant::now();
    for (seconds, usage) in [(0, Usage::Busy), (3, Usage::Reading(0))] {
        assert_eq!(activity.usage(now + seconds * SECOND), usage);
    }
    activity.client_sent(3 << 20);
    assert_eq!(activity.usage(now + 4 * SECOND), Usage::Reading((3 << 20) / 4));
}

#[test]
fn statement_53_an_idle_connection_stays_for_over_120_seconds() {
    let activity = activity();
    activity.request_started();
    activity.request_ended(true);
    assert!(matches!(after(&activity, 149 * SECOND), Deadline::Pending(_)));
    assert_eq!(after(&activity, 151 * SECOND), Deadline::Idle);
}

#[test]
fn a_busy_connection_is_looked_at_again_within_the_idle_time() {
    let activity = activity();
    activity.request_started();
    let (limits, now) = (Limits::default(), Instant::now());
    let Deadline::Pending(until) = activity.deadline(&limits, now) else {
        panic!("the connection is busy");
    };
    assert!(until <= now + limits.idle);
}

#[test]
fn one_of_two_requests_keeps_the_connection_busy() {
    let activity = activity();
    activity.request_started();
    activity.request_started();
    activity.request_ended(true);
    assert!(matches!(after(&activity, 300 * SECOND), Deadline::Pending(_)));
    activity.request_ended(true);
    assert_eq!(after(&activity, 300 * SECOND), Deadline::Idle);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_leaves_and_a_busy_one_is_cut() {
    let activity = activity();
    let now = Instant::now();
    assert_eq!(activity.usage(now), Usage::Busy);
    assert_eq!(activity.usage(now + IDLE_AFTER), Usage::Idle(now));
    assert!(activity.reclaim());
    assert_eq!(activity.end_requested().await, EndRequest::Graceful);
    activity.request_started();
    assert_eq!(activity.usage(now + 10 * IDLE_AFTER), Usage::Busy);
    activity.server_busy(false);
    for (after, usage) in [(20, Usage::Busy), (23, Usage::Reading(0))] {
        assert_eq!(activity.usage(now + after * SECOND), usage);
    }
    assert!(activity.reclaim());
    assert_eq!(activity.end_requested().await, EndRequest::Abort);
}
