//! Keeps what happens many times from filling the log: one line for each kind of event and interval.
//!
//! Owns when a line is due, and how many events there were since the last one. Leaves the line itself to the caller.
//! Kinds are kept for ever, so there has to be a bounded number of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Decides which events get a line of the log, by their kinds.
#[derive(Debug)]
pub struct LogThrottle<K>(Mutex<HashMap<K, Last>>);

#[derive(Debug)]
struct Last {
    logged: Instant,
    suppressed: u64,
}

/// The number of events of a kind that got no line since the last that did; displayed as words for the end of a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppressed(u64);

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Counts an event; the result says that its line is to be written now.
    #[must_use]
    pub fn admit(&self, kind: K) -> Option<Suppressed> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: K, now: Instant) -> Option<Suppressed> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let suppressed = match kinds.get_mut(&kind) {
            Some(last) if now.duration_since(last.logged) < INTERVAL => {
                last.suppressed += 1;
                return None;
            }
            Some(last) => last.suppressed,
            None => 0,
        };
        kinds.insert(kind, Last { logged: now, suppressed: 0 });
        Some(Suppressed(suppressed))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " (and {more} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_at_once_and_then_counted() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit_at("late", start), Some(Suppressed(0)));
        for _ in 0..2 {
            assert_eq!(throttle.admit_at("late", start + INTERVAL / 2), None);
        }
        assert_eq!(throttle.admit_at("refused", start), Some(Suppressed(0)));
        let line = throttle.admit_at("late", start + INTERVAL).unwrap();
        assert_eq!(format!("late{line}: why"), "late (and 2 more since the last such line): why");
        assert_eq!(throttle.admit_at("late", start + INTERVAL * 2).unwrap().to_string(), "");
    }
}
