//! Metrics of what this host publishes into the bucket.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::gauge_value;

/// Bounds of the time until a path is published, in seconds: most take seconds, and hours are a failure.
const BUCKETS: [f64; 10] = [1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];

/// Counters and gauges of publishing.
#[derive(Debug)]
pub(crate) struct PublishingMetrics {
    queued: Gauge,
    lag: Gauge,
    published: Histogram,
    irreproducible: Counter,
}

impl PublishingMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let queued = Gauge::default();
        registry.register("bucket_queued_paths", "Paths that wait to be published with their closures", queued.clone());
        let lag = Gauge::default();
        let help = "Time for which the first of the queued paths has been waiting, in seconds; 0 if none waits";
        registry.register("bucket_published_lag_seconds", help, lag.clone());
        let published = Histogram::new(BUCKETS);
        let help = "Time from queuing a path until it is in the bucket with its closure, in seconds";
        registry.register("bucket_publish_duration_seconds", help, published.clone());
        let irreproducible = Counter::default();
        let help = "Paths of which the bucket has another build than this host";
        registry.register("bucket_irreproducible_paths", help, irreproducible.clone());
        Self { queued, lag, published, irreproducible }
    }

    /// Sets the number of queued paths, and the time for which the first has been waiting.
    pub(crate) fn set_queue(&self, queued: usize, lag: Duration) {
        self.queued.set(gauge_value(queued as u64));
        self.lag.set(gauge_value(lag.as_secs()));
    }

    /// Records that a path is published after so much time.
    pub(crate) fn record_published(&self, waited: Duration) {
        self.published.observe(waited.as_secs_f64());
    }

    /// Records that the bucket has another build of a path.
    pub(crate) fn record_irreproducible(&self) {
        self.irreproducible.inc();
    }
}
