//! Metrics of lookups of paths that other hosts have published.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ResultLabel;

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

/// Counters of lookups.
#[derive(Debug)]
pub(crate) struct BucketLookupMetrics([Counter; BucketLookup::ALL.len()]);

impl BucketLookupMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let lookups = Family::<ResultLabel, Counter>::default();
        let help = "Lookups of paths that are not in the store, by result";
        registry.register("bucket_lookups", help, lookups.clone());
        Self(BucketLookup::ALL.map(|result| lookups.get_or_create_owned(&ResultLabel { result: result.label() })))
    }

    /// Records the end of a lookup.
    pub(crate) fn record(&self, lookup: BucketLookup) {
        // The variants are in the order of `ALL`.
        self.0[lookup as usize].inc();
    }

    /// Returns the number of lookups with this result.
    #[cfg(test)]
    pub(crate) fn get(&self, lookup: BucketLookup) -> u64 {
        self.0[lookup as usize].get()
    }
}
