//! Responses that are being sent, for `harmonia status`.
//!
//! Only bodies that are read from elsewhere are registered: NARs, files, listings and logs. Those in memory, as all narinfos
//! are, are sent at once and cost nothing here. A registered one costs an allocation, a lock for its insertion and one for
//! its removal, and an atomic addition for each chunk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use crate::fairness::ClientId;
use crate::http::request::route::Route;
use crate::sync::Mutex;

/// Upper bound of the time over which a rate is measured; if the earlier sample is older, it is the average of all time.
const MAX_INTERVAL: Duration = Duration::from_secs(30);
/// Lower bound of the time between two samples: in a shorter one a burst or a pause would pass for a rate.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// Responses that are being sent.
#[derive(Debug, Default)]
pub(crate) struct ActiveResponses {
    responses: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
}

/// Registration of a response, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ActiveResponse {
    registry: Arc<ActiveResponses>,
    number: u64,
    response: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    info: ResponseInfo,
    started: Instant,
    bytes: AtomicU64,
    /// The last two samples, the newer last: time, and bytes sent by then.
    samples: Mutex<[(Instant, u64); 2]>,
}

/// Identity of a response.
#[derive(Debug, Clone)]
pub(crate) struct ResponseInfo {
    /// Path of the requested URL.
    pub(crate) target: Box<str>,
    /// The client that requested it.
    pub(crate) client: ClientId,
    /// Length of the body in bytes, if known.
    pub(crate) length: Option<u64>,
}

/// Progress of a response.
#[derive(Debug, Clone)]
pub(crate) struct ResponseProgress {
    /// Path of the requested URL.
    pub(crate) target: Box<str>,
    /// Hash part of the store path, if the URL contains it.
    pub(crate) hash: Option<HashPart>,
    /// The client that requested it.
    pub(crate) client: ClientId,
    /// Bytes that have been handed to the client's connection.
    pub(crate) sent: u64,
    /// Length of the body in bytes, if known.
    pub(crate) length: Option<u64>,
    /// Time since the start of the response.
    pub(crate) took: Duration,
    /// Bytes per second over the last seconds.
    pub(crate) rate: u64,
}

impl ActiveResponses {
    /// Registers a response.
    pub(crate) fn start(self: &Arc<Self>, info: ResponseInfo) -> ActiveResponse {
        let now = Instant::now();
        let response =
            Arc::new(Entry { info, started: now, bytes: AtomicU64::new(0), samples: Mutex::new([(now, 0); 2]) });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.responses().insert(number, Arc::clone(&response));
        ActiveResponse { registry: Arc::clone(self), number, response }
    }

    /// Returns the progress of all responses, in no particular order.
    #[must_use]
    pub(crate) fn progress(&self) -> Vec<ResponseProgress> {
        let responses: Vec<_> = self.responses().values().cloned().collect();
        responses.iter().map(|response| response.progress(Instant::now())).collect()
    }

    fn responses(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.responses.lock()
    }
}

impl Entry {
    fn progress(&self, now: Instant) -> ResponseProgress {
        let sent = self.bytes.load(Ordering::Relaxed);
        let mut samples = self.samples.lock();
        let [_, newer] = *samples;
        if now.saturating_duration_since(newer.0) >= MIN_INTERVAL {
            *samples = [newer, (now, sent)];
        }
        let [(from, before), _] = *samples;
        drop(samples);
        let is_recent = now.saturating_duration_since(from) <= MAX_INTERVAL;
        let (from, before) = if is_recent { (from, before) } else { (self.started, 0) };
        let ResponseInfo { target, client, length } = self.info.clone();
        let hash = target.parse().ok().and_then(|uri| Route::parse(&uri).hash());
        let took = now.saturating_duration_since(self.started);
        let rate = rate(sent.saturating_sub(before), now.saturating_duration_since(from));
        ResponseProgress { target, hash, client, sent, length, took, rate }
    }
}

/// Returns bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / time.as_millis().max(1)).unwrap_or(u64::MAX)
}

impl ActiveResponse {
    /// Returns the path of the requested URL.
    pub(crate) fn target(&self) -> &str {
        &self.response.info.target
    }

    /// Counts bytes that were handed to the connection.
    pub(crate) fn add_sent(&self, bytes: u64) {
        self.response.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for ActiveResponse {
    fn drop(&mut self) {
        self.registry.responses().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ResponseInfo {
        ResponseInfo { target: "/nar/x".into(), client: ClientId::Proxy, length: Some(9) }
    }

    #[test]
    fn a_response_is_here_until_it_is_dropped() {
        let active = Arc::new(ActiveResponses::default());
        let sent = active.start(info());
        sent.add_sent(4);
        let [progress] = &active.progress()[..] else { panic!("one") };
        assert_eq!((&*progress.target, progress.sent, progress.length), ("/nar/x", 4, Some(9)));
        drop(sent);
        assert!(active.progress().is_empty());
    }

    #[test]
    fn the_rate_is_measured_since_a_sample_that_is_neither_too_new_nor_too_old() {
        let active = Arc::new(ActiveResponses::default());
        let sent = active.start(info());
        let started = sent.response.started;
        let at = |milliseconds, bytes| {
            sent.response.bytes.store(bytes, Ordering::Relaxed);
            sent.response.progress(started + Duration::from_millis(milliseconds)).rate
        };
        assert_eq!(at(1000, 1000), 1000);
        assert_eq!(at(3000, 5000), 2000);
        // A query just after another one does not see a rate of zero.
        assert_eq!(at(3001, 5000), 1999);
        assert_eq!(at(3200, 5400), 2000);
        assert_eq!(at(4000, 6000), 1000);
        assert_eq!(at(100_000, 100_000), 1000);
    }
}
