//! Limits how often events of one kind are logged.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::mutex::Mutex;

/// Minimum time between two log lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Admits one log line per kind of event and interval, and counts the events in between.
///
/// Kinds are never forgotten, so there must be a bounded number of them.
#[derive(Debug)]
pub(crate) struct LogThrottle<K>(Mutex<HashMap<K, Last>>);

#[derive(Debug)]
struct Last {
    logged: Instant,
    suppressed: u64,
}

/// Number of events of a kind since its last log line. Displayed as the end of a clause, and empty if it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Counts an event. Returns `Some` if it should be logged now.
    #[must_use]
    pub(crate) fn admit(&self, kind: K) -> Option<Suppressed> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: K, now: Instant) -> Option<Suppressed> {
        let mut kinds = self.0.lock();
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
        assert_eq!(throttle.admit_at("timeout", start), Some(Suppressed(0)));
        for _ in 0..2 {
            assert_eq!(throttle.admit_at("timeout", start + INTERVAL / 2), None);
        }
        assert_eq!(throttle.admit_at("refused", start), Some(Suppressed(0)));
        let line = throttle.admit_at("timeout", start + INTERVAL).unwrap();
        assert_eq!(format!("timeout{line}: why"), "timeout (and 2 more since the last such line): why");
        assert_eq!(throttle.admit_at("timeout", start + INTERVAL * 2).unwrap().to_string(), "");
    }
}
