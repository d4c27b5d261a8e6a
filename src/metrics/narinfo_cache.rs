//! Metrics of the path info cache.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};
use super::request_notes::note;

/// Result of a path info lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The path info was in memory.
    Hit,
    /// Queried from nix-daemon.
    Miss,
    /// nix-daemon was unavailable, and a stale path info was used.
    Stale,
}

#[derive(Debug)]
pub(crate) struct NarinfoCacheMetrics {
    hits: Counter,
    misses: Counter,
    stale: Counter,
    prefetched: Counter,
    signed: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl NarinfoCacheMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<ResultLabel, Counter>::default();
        registry.register("narinfo_cache_requests", "Path info cache lookups, by result", lookups.clone());
        let lookups = |result| lookups.get_or_create_owned(&ResultLabel { result });
        let (hits, misses, stale) = (lookups("hit"), lookups("miss"), lookups("stale"));
        let prefetched = Counter::default();
        let help = "Path infos fetched before a client requested them";
        registry.register("narinfo_cache_prefetched", help, prefetched.clone());
        let signed = Counter::default();
        registry.register("narinfo_cache_signed", "Paths whose narinfos were signed", signed.clone());
        let entries = Gauge::default();
        registry.register("narinfo_cache_entries", "Path infos in the cache", entries.clone());
        let bytes = Gauge::default();
        registry.register("narinfo_cache_bytes", "Memory used by the path info cache, in bytes", bytes.clone());
        Self { hits, misses, stale, prefetched, signed, entries, bytes }
    }

    pub(crate) fn record_lookup(&self, result: Lookup) {
        let (label, counter) = match result {
            Lookup::Hit => ("hit", &self.hits),
            Lookup::Miss => ("miss", &self.misses),
            Lookup::Stale => ("stale", &self.stale),
        };
        note(|notes| notes.path_info = Some(label));
        counter.inc();
    }

    pub(crate) fn record_prefetched(&self) {
        self.prefetched.inc();
    }

    pub(crate) fn record_signed(&self) {
        self.signed.inc();
    }

    /// Sets the number of path infos in the cache, and their size in bytes.
    pub(crate) fn set_size(&self, entries: usize, bytes: usize) {
        self.entries.set(gauge_value(entries));
        self.bytes.set(gauge_value(bytes));
    }
}
