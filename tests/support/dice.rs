//! Reproducible random numbers: every actor of a soak has its own sequence, derived from the seed.

use std::env;
use std::time::{Duration, SystemTime};

/// Returns the seed of a soak: `HARMONIA_SOAK_SEED`, or another one each time.
pub(crate) fn soak_seed() -> u64 {
    let now = || u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() % 1_000_000).unwrap();
    variable("HARMONIA_SOAK_SEED").unwrap_or_else(now)
}

/// Returns the length of a soak, if `HARMONIA_SOAK_SECONDS` says one.
pub(crate) fn soak_length() -> Option<Duration> {
    variable("HARMONIA_SOAK_SECONDS").map(Duration::from_secs)
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Random number generator (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// Returns the generator of one actor.
    pub(crate) fn of(seed: u64, actor: usize) -> Self {
        let mut dice = Self(seed ^ (actor as u64).wrapping_mul(0xd605_bbb5_8c8a_bbc9));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// Returns a number less than `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
