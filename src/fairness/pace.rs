//! How fast a client takes what it is sent.
//!
//! Rates are counted, not events: a byte now and then is no use of a response. Only the time counts in which the client
//! had something to take; a source that is slow is not its fault. Nothing is measured unless somebody asks, which is while
//! others wait.

use std::time::Duration;

use tokio::time::Instant;

/// The time over which a rate is measured is between one and two of these.
const WINDOW: Duration = Duration::from_secs(2);
/// A sample that is older says nothing about now.
const STALE: Duration = Duration::from_secs(10);

/// The progress of one client at one response or connection.
#[derive(Debug)]
pub struct Pace {
    /// Time in which the client had something to take, before `offered`.
    before: Duration,
    /// Since when it has something to take.
    offered: Option<Instant>,
    older: Option<Sample>,
    newer: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    taken: u64,
    offered: Duration,
}

impl Pace {
    /// Nothing has been sent.
    #[must_use]
    pub const fn new() -> Self {
        Self { before: Duration::ZERO, offered: None, older: None, newer: None }
    }

    /// The client has something to take from now on.
    pub fn offer(&mut self, now: Instant) {
        self.offered.get_or_insert(now);
    }

    /// The client waits for the server from now on.
    pub fn owe(&mut self, now: Instant) {
        if let Some(since) = self.offered.take() {
            self.before += now.saturating_duration_since(since);
        }
    }

    /// Whether the client has something to take.
    #[must_use]
    pub const fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// The rate in bytes per second at which the client took what it could, by what it has `taken` in all. Nothing until it has
    /// been asked for long enough.
    pub fn rate(&mut self, now: Instant, taken: u64) -> Option<u64> {
        let since = self.offered.map(|since| now.saturating_duration_since(since));
        let sample = Sample { at: now, taken, offered: self.before + since.unwrap_or_default() };
        let age = self.newer.map(|newer| now.saturating_duration_since(newer.at));
        if age.is_none_or(|age| age >= WINDOW) {
            self.older = self.newer.replace(sample).filter(|_| age.is_some_and(|age| age < STALE));
        }
        let older = self.older?;
        let offered = sample.offered.saturating_sub(older.offered);
        if offered < WINDOW / 2 {
            return None;
        }
        let bytes = u128::from(taken.saturating_sub(older.taken)) * 1000;
        Some(u64::try_from(bytes / offered.as_millis().max(1)).unwrap_or(u64::MAX))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_that_takes_a_byte_now_and_then_has_the_rate_of_that() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        pace.offer(start);
        assert_eq!(pace.rate(start, 4 << 20), None);
        assert_eq!(pace.rate(start + SECOND, (4 << 20) + 1), None);
        assert_eq!(pace.rate(start + 2 * SECOND, (4 << 20) + 2), Some(1));
        assert_eq!(pace.rate(start + 3 * SECOND, (4 << 20) + 3_000), Some(1_000));
        // What was fast once does not help later.
        assert_eq!(pace.rate(start + 4 * SECOND, (4 << 20) + 3_000), Some(1_499));
        assert_eq!(pace.rate(start + 6 * SECOND, (4 << 20) + 3_000), Some(0));
    }

    #[test]
    fn what_the_source_owes_does_not_count() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for second in 0..10 {
            let now = start + second * SECOND;
            pace.owe(now);
            pace.offer(now + SECOND * 9 / 10);
            assert_eq!(pace.rate(now + SECOND, u64::from(second)), None, "{second}");
        }
        assert!(pace.is_offered());
    }

    #[test]
    fn a_sample_from_long_ago_is_not_used() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        pace.offer(start);
        assert_eq!(pace.rate(start, 0), None);
        assert_eq!(pace.rate(start + STALE, 1 << 30), None);
        assert_eq!(pace.rate(start + STALE + WINDOW, 1 << 30), Some(0));
    }
}
