//! Metrics of the NAR cache.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};
use super::request_notes::note;

/// An event in the NAR cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NarCacheEvent {
    /// A requested NAR was on disk.
    Hit,
    /// A requested NAR was being compressed.
    Joined,
    /// A requested NAR was not on disk, and its fill began.
    Miss,
    /// A requested NAR was not on disk, and could not be cached.
    Bypassed,
    /// A NAR was compressed before it was requested.
    Precompressed,
    /// A file was removed to free space.
    Evicted,
    /// A corrupt file was removed.
    Corrupt,
}

/// Contents of the NAR cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NarCacheUsage {
    /// Number of files.
    pub entries: usize,
    /// Space that they use on disk, in bytes.
    pub bytes: u64,
    /// Fills in progress.
    pub fills: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug)]
pub(crate) struct NarCacheMetrics {
    requests: Family<ResultLabel, Counter>,
    removed: Family<ReasonLabel, Counter>,
    precompressed: Counter,
    entries: Gauge,
    bytes: Gauge,
    fills: Gauge,
}

impl NarCacheMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<ResultLabel, Counter>::default();
        registry.register("nar_cache_requests", "Requests for compressed NARs, by result", requests.clone());
        let removed = Family::<ReasonLabel, Counter>::default();
        registry.register("nar_cache_removed", "Compressed NARs removed from disk, by reason", removed.clone());
        for result in ["hit", "joined", "miss", "bypassed"] {
            requests.get_or_create_owned(&ResultLabel { result });
        }
        for reason in ["space", "corrupt"] {
            removed.get_or_create_owned(&ReasonLabel { reason });
        }
        let precompressed = Counter::default();
        let help = "NARs compressed before they were requested";
        registry.register("nar_cache_precompressed", help, precompressed.clone());
        let mut gauge = |name, help| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            requests,
            removed,
            precompressed,
            entries: gauge("nar_cache_entries", "Compressed NARs on disk"),
            bytes: gauge("nar_cache_bytes", "Disk space used by compressed NARs, in bytes"),
            fills: gauge("nar_cache_fills", "NARs being compressed into the NAR cache"),
        }
    }

    pub(crate) fn record(&self, event: NarCacheEvent) {
        match event {
            NarCacheEvent::Hit => self.record_request("hit"),
            NarCacheEvent::Joined => self.record_request("joined"),
            NarCacheEvent::Miss => self.record_request("miss"),
            NarCacheEvent::Bypassed => self.record_request("bypassed"),
            NarCacheEvent::Precompressed => {
                self.precompressed.inc();
            }
            NarCacheEvent::Evicted => self.record_removal("space"),
            NarCacheEvent::Corrupt => self.record_removal("corrupt"),
        }
    }

    pub(crate) fn set_usage(&self, usage: NarCacheUsage) {
        let NarCacheUsage { entries, bytes, fills } = usage;
        self.entries.set(gauge_value(entries));
        self.bytes.set(gauge_value(bytes));
        self.fills.set(gauge_value(fills));
    }

    fn record_request(&self, result: &'static str) {
        note(|notes| notes.nar = Some(result));
        self.requests.get_or_create(&ResultLabel { result }).inc();
    }

    fn record_removal(&self, reason: &'static str) {
        self.removed.get_or_create(&ReasonLabel { reason }).inc();
    }
}
