//! What is counted of what is kept in memory of paths.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::notes::note;
use super::{Metrics, ResultLabel};

/// How the memory met a question about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It had the answer.
    Hit,
    /// The daemon was asked.
    Miss,
    /// The daemon did not answer, and an old answer was used.
    Stale,
}

#[derive(Debug)]
pub(super) struct Caches {
    hits: Counter,
    misses: Counter,
    stale: Counter,
    asked_ahead: Counter,
    signed: Counter,
    entries: Gauge,
    bytes: Gauge,
}

impl Caches {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<ResultLabel, Counter>::default();
        registry.register("narinfo_cache_requests", "Questions about paths to the memory of them", lookups.clone());
        let lookups = |result| lookups.get_or_create_owned(&ResultLabel { result });
        let (hits, misses, stale) = (lookups("hit"), lookups("miss"), lookups("stale"));
        let asked_ahead = Counter::default();
        let help = "Paths that nix-daemon was asked about before a client asked";
        registry.register("narinfo_cache_prefetched", help, asked_ahead.clone());
        let signed = Counter::default();
        registry.register("narinfo_cache_signed", "Paths whose narinfos were signed", signed.clone());
        let entries = Gauge::default();
        registry.register("narinfo_cache_entries", "Paths in the memory of paths", entries.clone());
        let bytes = Gauge::default();
        registry.register("narinfo_cache_bytes", "Bytes of the memory of paths", bytes.clone());
        Self { hits, misses, stale, asked_ahead, signed, entries, bytes }
    }
}

impl Metrics {
    /// The memory of paths has been asked.
    pub fn looked_up(&self, result: Lookup) {
        let label = match result {
            Lookup::Hit => "hit",
            Lookup::Miss => "miss",
            Lookup::Stale => "stale",
        };
        note(|notes| notes.path_info = Some(label));
        match result {
            Lookup::Hit => self.caches.hits.inc(),
            Lookup::Miss => self.caches.misses.inc(),
            Lookup::Stale => self.caches.stale.inc(),
        };
    }

    /// The daemon has been asked about a path before a client asked.
    pub fn asked_ahead(&self) {
        self.caches.asked_ahead.inc();
    }

    /// The narinfo of a path has been signed.
    pub fn signed(&self) {
        self.caches.signed.inc();
    }

    /// How many paths are kept now, and their bytes.
    pub fn cache(&self, entries: usize, bytes: usize) {
        for (gauge, value) in [(&self.caches.entries, entries), (&self.caches.bytes, bytes)] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}
