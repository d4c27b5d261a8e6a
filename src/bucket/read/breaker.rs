//! Spares an object store that does not answer, and the clients that would wait for it.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Time after a failure in which no request is made, so that clients learn at once that there is no answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Time that the one request has which is made then. Longer than it takes with all its attempts.
const TRIAL: Duration = Duration::from_secs(12);

/// Lets requests through while they succeed. After a failure it lets one through now and then, until that succeeds.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When the next request is let through; `None` while all are.
    opens: Mutex<Option<Instant>>,
}

impl Breaker {
    /// Returns whether a request may be made, whose result is to be recorded.
    pub(super) fn admits(&self) -> bool {
        self.admits_at(Instant::now())
    }

    fn admits_at(&self, now: Instant) -> bool {
        match &mut *self.opens.lock() {
            None => true,
            Some(opens) if now < *opens => false,
            Some(opens) => {
                *opens = now + TRIAL;
                true
            }
        }
    }

    /// Records that the object store has answered.
    pub(super) fn succeeded(&self) {
        *self.opens.lock() = None;
    }

    /// Records that it has not.
    pub(super) fn failed(&self) {
        self.failed_at(Instant::now());
    }

    fn failed_at(&self, now: Instant) {
        *self.opens.lock() = Some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_request_at_a_time_finds_out_whether_it_passed() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        assert!(breaker.admits_at(start) && breaker.admits_at(start));
        breaker.failed_at(start);
        assert!(!breaker.admits_at(start + PAUSE / 2));
        assert!(breaker.admits_at(start + PAUSE));
        assert!(!breaker.admits_at(start + PAUSE));
        breaker.failed_at(start + PAUSE);
        assert!(!breaker.admits_at(start + PAUSE));
        assert!(breaker.admits_at(start + PAUSE * 2));
        // Its result never came.
        assert!(breaker.admits_at(start + PAUSE * 2 + TRIAL));
        breaker.succeeded();
        assert!(breaker.admits_at(start) && breaker.admits_at(start));
    }
}
