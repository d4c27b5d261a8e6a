//! What is counted of compressed NARs.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::notes::note;
use super::{Metrics, ResultLabel};

/// What happens in the cache of compressed NARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NarCacheEvent {
    /// A NAR was asked for and was there.
    Hit,
    /// It was being made.
    Joined,
    /// It was not there, and began to be made.
    Filled,
    /// It began to be made before anybody asked for it.
    Ahead,
    /// It was not there and could not be kept.
    Bypassed,
    /// A file left because there was no room.
    Evicted,
    /// A file was not what had been written, and was removed.
    Corrupt,
}

/// What is kept now.
#[derive(Debug, Clone, Copy)]
pub struct NarCacheUsage {
    /// Files.
    pub entries: usize,
    /// The room that they take.
    pub bytes: u64,
    /// NARs that are being made.
    pub fills: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug)]
pub(super) struct NarCacheMetrics {
    requests: Family<ResultLabel, Counter>,
    removed: Family<ReasonLabel, Counter>,
    ahead: Counter,
    entries: Gauge,
    bytes: Gauge,
    fills: Gauge,
}

impl NarCacheMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<ResultLabel, Counter>::default();
        registry.register("nar_cache_requests", "Compressed nars asked for", requests.clone());
        let removed = Family::<ReasonLabel, Counter>::default();
        registry.register("nar_cache_removed", "Compressed nars removed from the disk", removed.clone());
        for result in ["hit", "joined", "miss", "bypassed"] {
            requests.get_or_create_owned(&ResultLabel { result });
        }
        for reason in ["space", "corrupt"] {
            removed.get_or_create_owned(&ReasonLabel { reason });
        }
        let ahead = Counter::default();
        registry.register("nar_cache_precompressed", "Nars compressed before anybody asked for them", ahead.clone());
        let mut gauge = |name, help| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            requests,
            removed,
            ahead,
            entries: gauge("nar_cache_entries", "Compressed nars on disk"),
            bytes: gauge("nar_cache_bytes", "Room that compressed nars take on disk"),
            fills: gauge("nar_cache_fills", "Nars that are being compressed for the disk"),
        }
    }
}

impl Metrics {
    /// Something has happened in the cache of compressed NARs.
    pub fn nar_cache(&self, event: NarCacheEvent) {
        let label = match event {
            NarCacheEvent::Hit => Some("hit"),
            NarCacheEvent::Joined => Some("joined"),
            NarCacheEvent::Filled => Some("miss"),
            NarCacheEvent::Bypassed => Some("bypassed"),
            NarCacheEvent::Ahead | NarCacheEvent::Evicted | NarCacheEvent::Corrupt => None,
        };
        if label.is_some() {
            note(|notes| notes.nar = label);
        }
        let result = |result| self.nar_cache.requests.get_or_create_owned(&ResultLabel { result });
        let reason = |reason| self.nar_cache.removed.get_or_create_owned(&ReasonLabel { reason });
        let counter = match event {
            NarCacheEvent::Hit => result("hit"),
            NarCacheEvent::Joined => result("joined"),
            NarCacheEvent::Filled => result("miss"),
            NarCacheEvent::Ahead => {
                self.nar_cache.ahead.inc();
                return;
            }
            NarCacheEvent::Bypassed => result("bypassed"),
            NarCacheEvent::Evicted => reason("space"),
            NarCacheEvent::Corrupt => reason("corrupt"),
        };
        counter.inc();
    }

    /// How much is kept now.
    pub fn nar_cache_usage(&self, now: NarCacheUsage) {
        let NarCacheUsage { entries, bytes, fills } = now;
        self.nar_cache.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.nar_cache.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.nar_cache.fills.set(i64::try_from(fills).unwrap_or(i64::MAX));
    }
}
