//! Metrics of key sets by URL.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    url: String,
    result: &'static str,
}

/// Fetches of key sets, by URL.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenKeyMetrics(Family<FetchLabels, Counter>);

/// Fetches of one URL.
#[derive(Debug)]
pub(crate) struct FetchCounter {
    ok: Counter,
    error: Counter,
}

impl TokenKeyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let fetches = Self::default();
        registry.register("token_key_fetches", "Fetches of token keys, by URL and result", fetches.0.clone());
        fetches
    }

    /// Returns the counter of a URL of the configuration, whose series begin at 0.
    pub(crate) fn of(&self, url: &str) -> FetchCounter {
        let counter = |result| self.0.get_or_create_owned(&FetchLabels { url: url.to_owned(), result });
        FetchCounter { ok: counter("ok"), error: counter("error") }
    }
}

impl FetchCounter {
    /// Counts a fetch.
    pub(crate) fn record(&self, is_ok: bool) {
        if is_ok { &self.ok } else { &self.error }.inc();
    }
}
