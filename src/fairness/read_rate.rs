//! Measures how fast a client reads its response.
//!
//! Rates are measured, not events: a byte now and then does not count as reading. Only time in which the client has data to
//! read counts, so a slow source is not held against the client. Nothing is measured until somebody asks, which happens only
//! while others wait.

use std::time::Duration;

use tokio::time::Instant;

use super::holder::Usage;

/// A rate is measured over one to two of these.
const WINDOW: Duration = Duration::from_secs(3);
/// Age at which a sample is discarded.
const STALE: Duration = Duration::from_secs(10);

/// Rate at which one client reads one response or connection.
#[derive(Debug, Default)]
pub(crate) struct ReadRate {
    /// Time in which the client had data to read, before `reading_since`.
    read_time: Duration,
    /// Start of the time in which the client has data to read.
    reading_since: Option<Instant>,
    older: Option<Sample>,
    newer: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    bytes: u64,
    read_time: Duration,
}

impl ReadRate {
    /// Starts the clock: the client has data to read.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.reading_since.get_or_insert(now);
    }

    /// Stops the clock: the client waits for the server.
    pub(crate) fn pause(&mut self, now: Instant) {
        if let Some(since) = self.reading_since.take() {
            self.read_time += now.saturating_duration_since(since);
        }
    }

    /// Returns how the client reads, given the `total` bytes that it has read so far. The answer is [`Usage::Busy`] until this
    /// has been called for some seconds.
    pub(crate) fn usage(&mut self, now: Instant, total: u64) -> Usage {
        let since = self.reading_since.map(|since| now.saturating_duration_since(since));
        let sample = Sample { at: now, bytes: total, read_time: self.read_time + since.unwrap_or_default() };
        let age = self.newer.map(|newer| now.saturating_duration_since(newer.at));
        if age.is_none_or(|age| age >= WINDOW) {
            self.older = self.newer.replace(sample).filter(|_| age.is_some_and(|age| age < STALE));
        }
        let Some(older) = self.older else { return Usage::Busy };
        let read_time = sample.read_time.saturating_sub(older.read_time);
        let bytes = total.saturating_sub(older.bytes);
        if read_time < WINDOW / 2 {
            return if bytes == 0 { Usage::SourceStalled } else { Usage::Busy };
        }
        if self.reading_since.is_none() {
            return Usage::Busy;
        }
        let rate = u128::from(bytes) * 1000 / read_time.as_millis().max(1);
        Usage::Reading(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_now_and_then_is_a_low_rate() {
        let (mut rate, start) = (ReadRate::default(), Instant::now());
        rate.resume(start);
        assert_eq!(rate.usage(start, 4 << 20), Usage::Busy);
        assert_eq!(rate.usage(start + SECOND, (4 << 20) + 1), Usage::Busy);
        assert_eq!(rate.usage(start + 3 * SECOND, (4 << 20) + 3), Usage::Reading(1));
        assert_eq!(rate.usage(start + 4 * SECOND, (4 << 20) + 3_000), Usage::Reading(750));
        // Earlier speed does not help.
        assert_eq!(rate.usage(start + 6 * SECOND, (4 << 20) + 3_000), Usage::Reading(999));
        assert_eq!(rate.usage(start + 9 * SECOND, (4 << 20) + 3_000), Usage::Reading(0));
    }

    #[test]
    fn time_in_which_the_source_has_no_data_does_not_count() {
        let (mut rate, start) = (ReadRate::default(), Instant::now());
        for second in 0..10 {
            let now = start + second * SECOND;
            rate.pause(now);
            rate.resume(now + SECOND * 9 / 10);
            assert_eq!(rate.usage(now + SECOND, u64::from(second)), Usage::Busy, "{second}");
        }
        rate.pause(start + 10 * SECOND);
        for (second, usage) in [(11, Usage::Busy), (13, Usage::SourceStalled)] {
            assert_eq!(rate.usage(start + second * SECOND, 9), usage);
        }
    }

    #[test]
    fn a_stale_sample_is_discarded() {
        let (mut rate, start) = (ReadRate::default(), Instant::now());
        rate.resume(start);
        assert_eq!(rate.usage(start, 0), Usage::Busy);
        assert_eq!(rate.usage(start + STALE, 1 << 30), Usage::Busy);
        assert_eq!(rate.usage(start + STALE + WINDOW, 1 << 30), Usage::Reading(0));
    }
}
