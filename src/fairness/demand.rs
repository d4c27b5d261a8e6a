//! What may be taken back for somebody who waits.
//!
//! - What is held without use goes first, the longest unused of all, after a moment.
//! - Then the slowest. One that waits for a client with less than the holder's asks for more with time: tenfold each
//!   ten seconds, so that a stopped reader goes after a second and anyone after a minute.
//! - One whose client has its share already, or that waits for the holder's own client, takes back stopped readers later, and
//!   others only when its own request would fail else: what was cut comes again, and clients give up after five times.
//! - A source that has had nothing for seconds is not its client's fault, and makes way only for those that have less.

use std::time::Duration;

use super::Usage;

/// From when on what is not used is taken back.
const MOMENT: Duration = Duration::from_millis(20);
/// From when on a stopped reader is cut.
const FIRST: Duration = Duration::from_secs(1);
/// A reader with less than this has stopped, in bytes per second.
const STOPPED: u64 = 1 << 10;
/// The rate that is asked for grows tenfold in this time.
const TENFOLD: Duration = Duration::from_secs(10);
/// From when on one whose client has its share spares none below a rate, in bytes per second: stopped readers, slow ones, and all
/// of them a minute before it would be refused itself.
const HAS_ITS_SHARE: [(Duration, u64); 3] =
    [(Duration::from_secs(10), STOPPED), (Duration::from_secs(30), 16 << 10), (Duration::from_secs(180), u64::MAX)];
/// From when on whoever waits for a source that has nothing makes way for one whose client has less.
const STARVED: Duration = Duration::from_secs(10);

/// The demand of one who waits on one holder.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// How long it has waited.
    pub waited: Duration,
    /// Whether its client is the holder's.
    pub is_own: bool,
    /// Whether its client holds less than the holder's.
    pub is_owed: bool,
}

impl Demand {
    /// Whether a permit that is used like this is to be taken back.
    #[must_use]
    pub fn takes(self, usage: Usage) -> bool {
        let Self { waited, is_own, is_owed } = self;
        match usage {
            Usage::Working => false,
            Usage::Unused(_) => waited >= if is_own || is_owed { MOMENT } else { FIRST },
            Usage::Taking(rate) => rate < self.rate(),
            Usage::Starved => is_owed && waited >= STARVED,
        }
    }

    /// The least rate that spares a holder, in bytes per second.
    fn rate(self) -> u64 {
        if !self.is_owed {
            let reached = HAS_ITS_SHARE.iter().rev().find(|(from, _)| self.waited >= *from);
            return reached.map_or(0, |(_, rate)| *rate);
        }
        let Some(longer) = self.waited.checked_sub(FIRST) else { return 0 };
        let grown = 10_f64.powf(longer.as_secs_f64() / TENFOLD.as_secs_f64());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and is positive")]
        STOPPED.saturating_mul(grown as u64)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn takes(seconds: u64, is_owed: bool, rate: u64) -> bool {
        Demand { waited: Duration::from_secs(seconds), is_own: !is_owed, is_owed }.takes(Usage::Taking(rate))
    }

    #[test]
    fn the_longer_one_waits_the_faster_a_holder_has_to_be() {
        const MIB: u64 = 1 << 20;
        for (rate, owed, not_owed) in
            [(0, 1, 10), (10 << 10, 11, 30), (100 << 10, 21, 180), (MIB, 32, 180), (100 * MIB, 52, 180)]
        {
            for (is_owed, from) in [(true, owed), (false, not_owed)] {
                assert!(!takes(from - 1, is_owed, rate), "{rate} after {from}");
                assert!(takes(from, is_owed, rate) || takes(from + 1, is_owed, rate), "{rate} after {from}");
            }
        }
    }

    #[test]
    fn what_is_not_used_goes_after_a_moment_and_what_the_server_is_at_work_on_never() {
        let unused = Usage::Unused(Instant::now());
        let demand = |waited, is_own, is_owed| Demand { waited, is_own, is_owed };
        for (is_own, is_owed, from) in [(true, false, MOMENT), (false, true, MOMENT), (false, false, FIRST)] {
            assert!(demand(from, is_own, is_owed).takes(unused));
            assert!(!demand(from / 2, is_own, is_owed).takes(unused));
        }
        let hour = Duration::from_secs(3600);
        assert!(!demand(hour, false, true).takes(Usage::Working));
        assert!(demand(STARVED, false, true).takes(Usage::Starved));
        assert!(!demand(STARVED / 2, false, true).takes(Usage::Starved));
        assert!(!demand(hour, false, false).takes(Usage::Starved));
    }
}
