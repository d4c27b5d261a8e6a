//! One log line per event, not per request: trouble with the daemon meets every request at once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Level;

use super::error::{HandlerError, Trouble};

/// Trouble of one kind is logged at most this often; what happened in between is counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes errors to the log.
#[derive(Debug, Default)]
pub(super) struct TroubleLog {
    requests: AtomicU64,
    last: Mutex<HashMap<Trouble, Last>>,
}

#[derive(Debug)]
struct Last {
    logged: Instant,
    silent: u64,
}

impl TroubleLog {
    /// Reports the error of a request for `target`, and returns the request's id, which the response carries and
    /// the log line names.
    pub(super) fn report(&self, target: &str, error: &HandlerError) -> String {
        let id = format!("{:x}-{:x}", std::process::id(), self.requests.fetch_add(1, Ordering::Relaxed));
        let (trouble, level) = error.trouble();
        let Some(silent) = self.due(trouble, Instant::now()) else { return id };
        let more = if silent > 0 { format!(" (and {silent} more since the last such line)") } else { String::new() };
        // Debug formatting of the target: a client cannot forge a line.
        if level == Level::WARN {
            tracing::warn!("request {id} for {target:?} answered 503{more}: {error}");
        } else {
            tracing::error!("request {id} for {target:?} answered 503{more}: {error}");
        }
        id
    }

    /// Whether trouble of this kind may be logged now, and how much of it was not since the last time.
    fn due(&self, trouble: Trouble, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let silent = match last.get_mut(&trouble) {
            Some(last) if now.duration_since(last.logged) < INTERVAL => {
                last.silent += 1;
                return None;
            }
            Some(last) => last.silent,
            None => 0,
        };
        last.insert(trouble, Last { logged: now, silent: 0 });
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_logged_at_once_and_then_counted() {
        let log = TroubleLog::default();
        let start = Instant::now();
        assert_eq!(log.due(Trouble::Late, start), Some(0));
        assert_eq!(log.due(Trouble::Late, start + INTERVAL / 2), None);
        assert_eq!(log.due(Trouble::Late, start + INTERVAL / 2), None);
        assert_eq!(log.due(Trouble::Refused, start), Some(0));
        assert_eq!(log.due(Trouble::Late, start + INTERVAL), Some(2));
    }
}
