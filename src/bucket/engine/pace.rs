//! Pauses between attempts, and before all requests when the server asks for fewer.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// First pause after the server has asked for fewer requests, and the longest one. Swift asks for about a minute after a
/// storage node is back.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// First pause of a request that failed, and the longest one.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Pause that all requests keep together.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pause: Duration,
    until: Option<Instant>,
}

impl Pace {
    /// Returns how long to wait before a request.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.0.lock().until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Notes that the server has asked for fewer requests. Each time after a pause, the next pause is twice as long.
    pub(super) fn slow_down(&self, now: Instant) {
        let mut state = self.0.lock();
        // Requests that were on their way count once.
        if state.until.is_none_or(|until| until <= now) {
            state.pause = (state.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
            state.until = Some(now + state.pause);
        }
    }

    /// Notes that the server has done what it was asked for.
    pub(super) fn succeeded(&self, now: Instant) {
        let mut state = self.0.lock();
        if state.until.is_some_and(|until| until <= now) {
            *state = State::default();
        }
    }
}

/// Returns the pause before the attempt after this one, counted from one: doubled each time, and somewhere between half of it
/// and all of it, so that hosts do not come back together.
pub(super) fn backoff(attempt: u32) -> Duration {
    let longest = FIRST_BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(MAX_BACKOFF);
    let random = RandomState::new().hash_one(attempt) % 1024;
    longest / 2 + longest.mul_f64(0.5 * f64::from(u32::try_from(random).unwrap_or_default()) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_wait_together_and_longer_each_time() {
        let (pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(now), Duration::ZERO);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            pace.slow_down(now);
            pace.slow_down(now);
            assert_eq!(pace.wait(now), Duration::from_secs(seconds));
            pace.succeeded(now);
            assert_eq!(pace.wait(now), Duration::from_secs(seconds), "one success within the pause proves nothing");
            now += Duration::from_secs(seconds);
        }
        pace.succeeded(now);
        pace.slow_down(now);
        assert_eq!(pace.wait(now), FIRST_PAUSE);
    }

    #[test]
    fn pauses_are_bounded() {
        for attempt in 1..100 {
            let pause = backoff(attempt);
            assert!(pause >= FIRST_BACKOFF / 2 && pause <= MAX_BACKOFF, "{pause:?}");
        }
        assert!(backoff(1) <= FIRST_BACKOFF && backoff(20) >= MAX_BACKOFF / 2);
    }
}
