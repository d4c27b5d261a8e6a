//! Metrics of lookups of paths that other hosts have published.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};

/// Result of a lookup of a path that the store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketLookup {
    /// Its narinfo was in memory.
    Memory,
    /// Its narinfo was read.
    Found,
    /// The index says that no host has published it.
    NotIndexed,
    /// The bucket has no narinfo of it, now or a moment ago.
    Absent,
    /// Its narinfo cannot be used: it is malformed, or no trusted key signed it.
    Rejected,
    /// The bucket cannot be asked.
    Unreachable,
    /// As [`Self::Absent`] or [`Self::Unreachable`], and what was read before is served.
    Stale,
}

impl BucketLookup {
    const ALL: [Self; 7] =
        [Self::Memory, Self::Found, Self::NotIndexed, Self::Absent, Self::Rejected, Self::Unreachable, Self::Stale];

    const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Found => "found",
            Self::NotIndexed => "not_indexed",
            Self::Absent => "absent",
            Self::Rejected => "rejected",
            Self::Unreachable => "unreachable",
            Self::Stale => "stale",
        }
    }
}

/// Counters of lookups, and the state of the index.
#[derive(Debug)]
pub(crate) struct BucketLookupMetrics {
    lookups: [Counter; BucketLookup::ALL.len()],
    index_bytes: Gauge,
    index_age: Gauge,
}

impl BucketLookupMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<ResultLabel, Counter>::default();
        let help = "Lookups of paths that are not in the store, by result";
        registry.register("bucket_lookups", help, lookups.clone());
        let lookups =
            BucketLookup::ALL.map(|result| lookups.get_or_create_owned(&ResultLabel { result: result.label() }));
        let index_bytes = Gauge::default();
        let help = "Memory of the index of what other hosts have published, in bytes";
        registry.register("bucket_index_bytes", help, index_bytes.clone());
        let index_age = Gauge::default();
        let help = "Seconds since the last complete reading of the index; -1 before the first";
        registry.register("bucket_index_age_seconds", help, index_age.clone());
        Self { lookups, index_bytes, index_age }
    }

    /// Sets the memory of the index in bytes, and the time since its last refresh.
    pub(crate) fn set_index(&self, bytes: usize, age: Option<Duration>) {
        self.index_bytes.set(gauge_value(bytes));
        self.index_age.set(age.map_or(-1, |age| gauge_value(age.as_secs())));
    }

    /// Records the end of a lookup.
    pub(crate) fn record(&self, lookup: BucketLookup) {
        // The variants are in the order of `ALL`.
        self.lookups[lookup as usize].inc();
    }

    /// Returns the number of lookups with this result.
    #[cfg(test)]
    pub(crate) fn get(&self, lookup: BucketLookup) -> u64 {
        self.lookups[lookup as usize].get()
    }
}
