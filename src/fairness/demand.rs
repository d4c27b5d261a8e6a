//! What may be taken back for somebody who waits.
//!
//! - What is held without use goes first, the longest unused of all, after a moment.
//! - Then the slowest. One that waits for a client with less than the holder's client asks for more with time: tenfold each
//!   ten seconds, so that a stopped reader goes after a second and anyone after a minute.
//! - One whose client has its share already, or that waits for the holder's own client, gets what stopped readers hold after
//!   the same second, but others are cut for it only when its own request would fail else: what was cut comes again, and
//!   clients give up after five times.
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
/// From when on a slow reader is cut for one whose client has its share, and below which rate, in bytes per second.
const SLOW: (Duration, u64) = (Duration::from_secs(30), 16 << 10);
/// From when on whoever waits for a source that has nothing makes way for one whose client has less.
const STARVED: Duration = Duration::from_secs(10);
/// From when on any reader is: a minute before whoever waits is refused.
const LAST: Duration = Duration::from_secs(180);

/// The demand of one who waits on one holder.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// How long it has waited.
    pub waited: Duration,
    /// Whether its client holds less than the holder's.
    pub is_owed: bool,
}

impl Demand {
    /// Whether a permit that is used like this is to be taken back.
    #[must_use]
    pub fn takes(self, usage: Usage) -> bool {
        match usage {
            Usage::Working => false,
            Usage::Starved => self.waited >= if self.is_owed { STARVED } else { LAST },
            Usage::Unused(_) => self.waited >= MOMENT,
            Usage::Taking(rate) => self.waited >= FIRST && rate < self.rate(),
        }
    }

    /// The least rate that spares a holder, in bytes per second.
    fn rate(self) -> u64 {
        if self.is_owed {
            let grown = 10_f64.powf((self.waited.saturating_sub(FIRST)).as_secs_f64() / TENFOLD.as_secs_f64());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates, and is positive
            return STOPPED.saturating_mul(grown as u64);
        }
        match self.waited {
            waited if waited >= LAST => u64::MAX,
            waited if waited >= SLOW.0 => SLOW.1,
            _ => STOPPED,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn takes(seconds: u64, is_owed: bool, rate: u64) -> bool {
        Demand { waited: Duration::from_secs(seconds), is_owed }.takes(Usage::Taking(rate))
    }

    #[test]
    fn the_longer_one_waits_the_faster_a_holder_has_to_be() {
        const MIB: u64 = 1 << 20;
        for (rate, owed, not_owed) in
            [(0, 1, 1), (10 << 10, 11, 30), (100 << 10, 21, 180), (MIB, 32, 180), (100 * MIB, 52, 180)]
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
        for (waited, taken) in [(Duration::ZERO, false), (MOMENT, true)] {
            assert_eq!(Demand { waited, is_owed: false }.takes(unused), taken);
        }
        assert!(!Demand { waited: 2 * LAST, is_owed: true }.takes(Usage::Working));
        for (is_owed, from) in [(true, STARVED), (false, LAST)] {
            assert!(!Demand { waited: from / 2, is_owed }.takes(Usage::Starved));
            assert!(Demand { waited: from, is_owed }.takes(Usage::Starved));
        }
    }
}
