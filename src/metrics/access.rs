//! Requests by the kind of credentials and by what came of them, if `[access]` is configured.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Results of requests by the class of their principal.
const SERIES: [(&str, &[&str]); 4] = [
    ("anonymous", &["granted", "missing", "malformed"]),
    ("user", &["granted", "forbidden", "wrong", "throttled"]),
    ("cert", &["granted", "forbidden"]),
    ("jwt", &["granted", "forbidden", "wrong", "pending"]),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccessLabels {
    principal: &'static str,
    result: &'static str,
}

#[derive(Debug)]
pub(crate) struct AccessMetrics(Family<AccessLabels, Counter>);

impl AccessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<AccessLabels, Counter>::default();
        let help = "Requests checked for rights, by class of the principal and result";
        registry.register("access_requests", help, family.clone());
        // Series that start at 0 show their first event.
        for (principal, results) in SERIES {
            for result in results {
                family.get_or_create_owned(&AccessLabels { principal, result });
            }
        }
        Self(family)
    }

    /// Counts a request of a principal of this class.
    pub(crate) fn record(&self, principal: &'static str, result: &'static str) {
        self.0.get_or_create_owned(&AccessLabels { principal, result }).inc();
    }
}
