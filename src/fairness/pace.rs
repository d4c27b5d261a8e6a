//! How fast a client takes what it is sent.
//!
//! Rates are counted, not events: a byte now and then is no use of a response. Only the time counts in which the client
//! had something to take; a source that is slow is not its fault. Nothing is measured unless somebody asks, which is while
//! others wait.

use std::time::Duration;

use tokio::time::Instant;

use super::Usage;

/// The time over which a rate is measured is between one and two of these.
const WINDOW: Duration = Duration::from_secs(3);
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

    /// The use that the client makes of what it is sent, by what it has `taken` in all. To be told it has to be asked for some
    /// seconds.
    pub fn usage(&mut self, now: Instant, taken: u64) -> Usage {
        let since = self.offered.map(|since| now.saturating_duration_since(since));
        let sample = Sample { at: now, taken, offered: self.before + since.unwrap_or_default() };
        let age = self.newer.map(|newer| now.saturating_duration_since(newer.at));
        if age.is_none_or(|age| age >= WINDOW) {
            self.older = self.newer.replace(sample).filter(|_| age.is_some_and(|age| age < STALE));
        }
        let Some(older) = self.older else { return Usage::Working };
        let (offered, bytes) = (sample.offered.saturating_sub(older.offered), taken.saturating_sub(older.taken));
        if offered < WINDOW / 2 {
            return if bytes == 0 { Usage::Starved } else { Usage::Working };
        }
        if self.offered.is_none() {
            return Usage::Working;
        }
        let rate = u128::from(bytes) * 1000 / offered.as_millis().max(1);
        Usage::Taking(u64::try_from(rate).unwrap_or(u64::MAX))
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
        assert_eq!(pace.usage(start, 4 << 20), Usage::Working);
        assert_eq!(pace.usage(start + SECOND, (4 << 20) + 1), Usage::Working);
        assert_eq!(pace.usage(start + 3 * SECOND, (4 << 20) + 3), Usage::Taking(1));
        assert_eq!(pace.usage(start + 4 * SECOND, (4 << 20) + 3_000), Usage::Taking(750));
        // What was fast once does not help later.
        assert_eq!(pace.usage(start + 6 * SECOND, (4 << 20) + 3_000), Usage::Taking(999));
        assert_eq!(pace.usage(start + 9 * SECOND, (4 << 20) + 3_000), Usage::Taking(0));
    }

    #[test]
    fn what_the_source_owes_does_not_count() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for second in 0..10 {
            let now = start + second * SECOND;
            pace.owe(now);
            pace.offer(now + SECOND * 9 / 10);
            assert_eq!(pace.usage(now + SECOND, u64::from(second)), Usage::Working, "{second}");
        }
        pace.owe(start + 10 * SECOND);
        for (second, usage) in [(11, Usage::Working), (13, Usage::Starved)] {
            assert_eq!(pace.usage(start + second * SECOND, 9), usage);
        }
    }

    #[test]
    fn a_sample_from_long_ago_is_not_used() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        pace.offer(start);
        assert_eq!(pace.usage(start, 0), Usage::Working);
        assert_eq!(pace.usage(start + STALE, 1 << 30), Usage::Working);
        assert_eq!(pace.usage(start + STALE + WINDOW, 1 << 30), Usage::Taking(0));
    }
}
