//! Responses that are on their way, for people who ask what is being sent.
//!
//! Only bodies that come from somewhere are here: NARs, files, listings and logs. What is in memory is gone at once, as all
//! narinfos are, and costs nothing. One body costs an allocation, two locks that are held for an insertion and a removal,
//! and an atomic addition for each chunk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use super::route::Route;
use crate::fairness::ClientId;
use crate::sync::Mutex;

/// Rates are those since an earlier look, if that was not longer ago than this.
const RECENT: Duration = Duration::from_secs(30);
/// Nor shorter ago than this, within which a burst, or a pause, would pass for a rate.
const LEAST: Duration = Duration::from_millis(500);

/// The responses that are on their way.
#[derive(Debug, Default)]
pub struct Sending {
    responses: Mutex<HashMap<u64, Arc<Response>>>,
    next: AtomicU64,
}

/// A response on its way, until it is dropped.
#[derive(Debug)]
pub(super) struct Sent {
    among: Arc<Sending>,
    number: u64,
    response: Arc<Response>,
}

#[derive(Debug)]
struct Response {
    what: What,
    began: Instant,
    bytes: AtomicU64,
    /// The last two looks that were apart, the newer last: when, and the bytes then.
    looked: Mutex<[(Instant, u64); 2]>,
}

/// The identity of a response.
#[derive(Debug, Clone)]
pub(super) struct What {
    /// The path of the URL that was asked for.
    pub(super) target: Box<str>,
    /// The client that asked.
    pub(super) client: ClientId,
    /// Its length in bytes, if that is known.
    pub(super) length: Option<u64>,
}

/// Progress of a response.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The path of the URL that was asked for.
    pub target: Box<str>,
    /// Of the store path that it is about, if its URL tells.
    pub hash: Option<HashPart>,
    /// The client that asked.
    pub client: ClientId,
    /// Bytes that have been handed to the client's connection.
    pub sent: u64,
    /// Bytes in all, if that is known.
    pub length: Option<u64>,
    /// Time since it began.
    pub took: Duration,
    /// Bytes per second, lately.
    pub rate: u64,
}

impl Sending {
    /// One more is on its way.
    pub(super) fn begin(self: &Arc<Self>, what: What) -> Sent {
        let now = Instant::now();
        let response =
            Arc::new(Response { what, began: now, bytes: AtomicU64::new(0), looked: Mutex::new([(now, 0); 2]) });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.responses().insert(number, Arc::clone(&response));
        Sent { among: Arc::clone(self), number, response }
    }

    /// All of them, in no order.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        let responses: Vec<_> = self.responses().values().cloned().collect();
        responses.iter().map(|response| response.progress(Instant::now())).collect()
    }

    fn responses(&self) -> MutexGuard<'_, HashMap<u64, Arc<Response>>> {
        self.responses.lock()
    }
}

impl Response {
    fn progress(&self, now: Instant) -> Progress {
        let sent = self.bytes.load(Ordering::Relaxed);
        let mut looked = self.looked.lock();
        let [_, newer] = *looked;
        if now.saturating_duration_since(newer.0) >= LEAST {
            *looked = [newer, (now, sent)];
        }
        let [(from, before), _] = *looked;
        drop(looked);
        let is_recent = now.saturating_duration_since(from) <= RECENT;
        let (from, before) = if is_recent { (from, before) } else { (self.began, 0) };
        let What { target, client, length } = self.what.clone();
        let hash = target.parse().ok().and_then(|uri| Route::parse(&uri).hash());
        let took = now.saturating_duration_since(self.began);
        let rate = rate(sent.saturating_sub(before), now.saturating_duration_since(from));
        Progress { target, hash, client, sent, length, took, rate }
    }
}

/// Bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / time.as_millis().max(1)).unwrap_or(u64::MAX)
}

impl Sent {
    /// The path of the URL that was asked for.
    pub(super) fn target(&self) -> &str {
        &self.response.what.target
    }

    /// Counts bytes that have been handed on.
    pub(super) fn add(&self, bytes: u64) {
        self.response.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.among.responses().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what() -> What {
        What { target: "/nar/x".into(), client: ClientId::Proxy, length: Some(9) }
    }

    #[test]
    fn a_response_is_here_until_it_is_dropped() {
        let sending = Arc::new(Sending::default());
        let sent = sending.begin(what());
        sent.add(4);
        let [progress] = &sending.progress()[..] else { panic!("one") };
        assert_eq!((&*progress.target, progress.sent, progress.length), ("/nar/x", 4, Some(9)));
        drop(sent);
        assert!(sending.progress().is_empty());
    }

    #[test]
    fn the_rate_is_that_since_a_look_that_was_neither_just_now_nor_long_ago() {
        let sending = Arc::new(Sending::default());
        let sent = sending.begin(what());
        let began = sent.response.began;
        let at = |milliseconds, bytes| {
            sent.response.bytes.store(bytes, Ordering::Relaxed);
            sent.response.progress(began + Duration::from_millis(milliseconds)).rate
        };
        assert_eq!(at(1000, 1000), 1000);
        assert_eq!(at(3000, 5000), 2000);
        // Whoever asks just after somebody else does not see a client that stands still.
        assert_eq!(at(3001, 5000), 1999);
        assert_eq!(at(3200, 5400), 2000);
        assert_eq!(at(4000, 6000), 1000);
        assert_eq!(at(100_000, 100_000), 1000);
    }
}
