//! Decides which permits may be reclaimed for a waiting client.
//!
//! - Idle permits go first, the longest idle of all, after a moment.
//! - Then those of the slowest reader. A waiter whose client holds fewer permits than the holder's demands a higher rate the
//!   longer it waits: ten times as much every ten seconds, so that a stopped reader loses its permits after a second, and
//!   any reader after a minute.
//! - A waiter whose client holds as many as the holder's, or is the same client, reclaims those of stopped readers later, and
//!   others only when its own request would otherwise fail: an aborted response has to be sent again, and clients give up
//!   after five attempts.
//! - A stalled source is not its client's fault, so its permits go only to clients that hold fewer.

use std::time::Duration;

use super::holder::Usage;

/// Wait after which idle permits are reclaimed.
const IDLE_WAIT: Duration = Duration::from_millis(20);
/// Wait after which the permits of a stopped reader are reclaimed.
const STOPPED_WAIT: Duration = Duration::from_secs(1);
/// Rate below which a reader has stopped, in bytes per second.
const STOPPED_RATE: u64 = 1 << 10;
/// Time in which the demanded rate grows tenfold.
const TENFOLD: Duration = Duration::from_secs(10);
/// Demanded rates, in bytes per second, by the wait of a client that holds its share: stopped readers, slow ones, and all of
/// them a minute before the waiter's own request would time out.
const WITH_FULL_SHARE: [(Duration, u64); 3] = [
    (Duration::from_secs(10), STOPPED_RATE),
    (Duration::from_secs(30), 16 << 10),
    (Duration::from_secs(180), u64::MAX),
];
/// Wait after which a client that holds fewer permits reclaims those of a stalled source.
const STALLED_WAIT: Duration = Duration::from_secs(10);

/// The claim of one waiter on the permits of one holder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// Time for which the waiter has waited.
    pub(super) waited: Duration,
    /// Whether waiter and holder are the same client.
    pub(super) is_same_client: bool,
    /// Whether the waiter's client holds fewer permits than the holder's.
    pub(super) holds_fewer: bool,
}

impl Claim {
    /// Returns whether permits that are used like this may be reclaimed.
    pub(super) fn may_reclaim(self, usage: Usage) -> bool {
        let Self { waited, is_same_client, holds_fewer } = self;
        match usage {
            Usage::Busy => false,
            Usage::Idle(_) => waited >= if is_same_client || holds_fewer { IDLE_WAIT } else { STOPPED_WAIT },
            Usage::Reading(rate) => rate < self.demanded_rate(),
            Usage::SourceStalled => holds_fewer && waited >= STALLED_WAIT,
        }
    }

    /// Returns the lowest rate at which a reader keeps its permits, in bytes per second.
    fn demanded_rate(self) -> u64 {
        if !self.holds_fewer {
            let reached = WITH_FULL_SHARE.iter().rev().find(|(wait, _)| self.waited >= *wait);
            return reached.map_or(0, |(_, rate)| *rate);
        }
        let Some(longer) = self.waited.checked_sub(STOPPED_WAIT) else { return 0 };
        let factor = 10_f64.powf(longer.as_secs_f64() / TENFOLD.as_secs_f64());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and is positive")]
        STOPPED_RATE.saturating_mul(factor as u64)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn may_reclaim(seconds: u64, holds_fewer: bool, rate: u64) -> bool {
        let waited = Duration::from_secs(seconds);
        Claim { waited, is_same_client: !holds_fewer, holds_fewer }.may_reclaim(Usage::Reading(rate))
    }

    #[test]
    fn the_longer_a_client_waits_the_higher_the_rate_it_demands() {
        const MIB: u64 = 1 << 20;
        for (rate, fewer, not_fewer) in
            [(0, 1, 10), (10 << 10, 11, 30), (100 << 10, 21, 180), (MIB, 32, 180), (100 * MIB, 52, 180)]
        {
            for (holds_fewer, from) in [(true, fewer), (false, not_fewer)] {
                assert!(!may_reclaim(from - 1, holds_fewer, rate), "{rate} after {from}");
                let reclaims = may_reclaim(from, holds_fewer, rate) || may_reclaim(from + 1, holds_fewer, rate);
                assert!(reclaims, "{rate} after {from}");
            }
        }
    }

    #[test]
    fn idle_permits_are_reclaimed_after_a_moment_and_busy_ones_never() {
        let idle = Usage::Idle(Instant::now());
        let claim = |waited, is_same_client, holds_fewer| Claim { waited, is_same_client, holds_fewer };
        for (same, fewer, from) in [(true, false, IDLE_WAIT), (false, true, IDLE_WAIT), (false, false, STOPPED_WAIT)] {
            assert!(claim(from, same, fewer).may_reclaim(idle));
            assert!(!claim(from / 2, same, fewer).may_reclaim(idle));
        }
        let hour = Duration::from_secs(3600);
        assert!(!claim(hour, false, true).may_reclaim(Usage::Busy));
        assert!(claim(STALLED_WAIT, false, true).may_reclaim(Usage::SourceStalled));
        assert!(!claim(STALLED_WAIT / 2, false, true).may_reclaim(Usage::SourceStalled));
        assert!(!claim(hour, false, false).may_reclaim(Usage::SourceStalled));
    }
}
