//! What is counted, and its text for Prometheus.
//!
//! Owns names, labels and buckets; that the counted things happen is for `http` and `store`, which are handed one
//! [`Metrics`] each. Every label is of a type that this program makes the values of, so no client can add a series:
//! paths are the templates of routes, methods are three, statuses are our own.

mod caches;
mod exposition;
mod http;
mod lease;
mod nar_cache;
mod notes;
mod process;
mod program;
mod samples;
mod scarce;

use harmonia_protocol::operation::Opcode;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use caches::Lookup;
pub use exposition::Exposition;
pub use http::{AbortedBy, Bytes, InFlight, Method, Totals};
pub use lease::LeaseEvent;
pub use nar_cache::{NarCacheEvent, NarCacheUsage};
pub use notes::{Notes, taken};
pub use samples::Samples;
pub use scarce::{ConnectionState, Connections, Reclaimed};

use caches::Caches;
use http::HttpMetrics;
use lease::LeaseMetrics;
use nar_cache::NarCacheMetrics;
use process::Process;
use program::CertificateExpiry;
use scarce::ScarceMetrics;

/// How a question to the daemon, or an attempt to connect, came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// With an error of the daemon, or of the connection to it.
    Error,
    /// Not in time.
    Late,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Late => "timeout",
        }
    }
}

/// One of the pools of connections to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolName {
    /// For questions about paths.
    Questions,
    /// For NARs.
    Nars,
}

impl PoolName {
    const fn label(self) -> &'static str {
        match self {
            Self::Questions => "metadata",
            Self::Nars => "nar",
        }
    }
}

/// How a pool is used at some moment, in connections.
#[derive(Debug, Clone, Copy)]
pub struct Occupancy {
    /// That there may be.
    pub max_size: usize,
    /// That there are.
    pub size: usize,
    /// That are lent.
    pub in_use: usize,
    /// That are waited for.
    pub waiting: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    op: Op,
    result: &'static str,
}

/// An operation by the name that the protocol gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Op(Opcode);

impl EncodeLabelValue for Op {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        std::fmt::Write::write_fmt(encoder, format_args!("{:?}", self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    certificate: CertificateExpiry,
    http: HttpMetrics,
    operations: Family<OperationLabels, Counter>,
    dials: Family<ResultLabel, Counter>,
    daemon_up: Gauge,
    max_sizes: Family<PoolLabel, Gauge>,
    sizes: Family<PoolLabel, Gauge>,
    in_use: Family<PoolLabel, Gauge>,
    waiting: Family<PoolLabel, Gauge>,
    caches: Caches,
    lease: LeaseMetrics,
    held_back: Gauge,
    nar_cache: NarCacheMetrics,
    scarce: ScarceMetrics,
}

impl Default for Metrics {
    /// The names, with nothing counted. `_total` is added to those of counters.
    fn default() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process::new()));
        let registry = all.sub_registry_with_prefix("harmonia");
        let r = &mut *registry;
        let certificate = program::register(r);
        let http = HttpMetrics::register(r);
        let operations = Family::default();
        let help = "Questions to nix-daemon; a nar counts when it begins";
        r.register("daemon_operations", help, operations.clone());
        let dials = Family::default();
        r.register("daemon_connection_attempts", "Attempts to make a connection to nix-daemon", dials.clone());
        let daemon_up = Gauge::default();
        r.register("daemon_up", "Whether the last attempt to connect to nix-daemon succeeded", daemon_up.clone());
        let mut pool = |name, help| {
            let family = Family::default();
            registry.register(name, help, Family::clone(&family));
            family
        };
        let max_sizes = pool("daemon_pool_max_size", "Connections to nix-daemon that there may be");
        let sizes = pool("daemon_pool_size", "Connections to nix-daemon that there are");
        let in_use = pool("daemon_pool_in_use", "Connections to nix-daemon that are in use");
        let waiting = pool("daemon_pool_waiting", "Requests that wait for a connection to nix-daemon");
        let caches = Caches::register(registry);
        let lease = LeaseMetrics::register(registry);
        let held_back = Gauge::default();
        let help = "Paths that are answered 404 because their nar is not what nix-daemon says";
        registry.register("quarantined_paths", help, held_back.clone());
        let nar_cache = NarCacheMetrics::register(registry);
        let scarce = ScarceMetrics::register(registry);
        // Series that begin at 0 show their first event as one.
        for result in [Outcome::Ok, Outcome::Error, Outcome::Late] {
            dials.get_or_create_owned(&ResultLabel { result: result.label() });
        }
        Self {
            registry: all,
            certificate,
            http,
            operations,
            dials,
            daemon_up,
            max_sizes,
            sizes,
            in_use,
            waiting,
            caches,
            lease,
            held_back,
            nar_cache,
            scarce,
        }
    }
}

impl Metrics {
    /// The daemon has been asked.
    pub fn operation(&self, op: Opcode, result: Outcome) {
        self.operations.get_or_create(&OperationLabels { op: Op(op), result: result.label() }).inc();
    }

    /// A connection to the daemon has been made, or could not be.
    pub fn dial(&self, result: Outcome) {
        self.dials.get_or_create(&ResultLabel { result: result.label() }).inc();
    }

    /// The last attempt to connect to the daemon has succeeded, or not.
    pub fn daemon_up(&self, is_up: bool) {
        self.daemon_up.set(is_up.into());
    }

    /// How a pool is used now.
    pub fn pool(&self, pool: PoolName, now: Occupancy) {
        let gauges = [
            (&self.max_sizes, now.max_size),
            (&self.sizes, now.size),
            (&self.in_use, now.in_use),
            (&self.waiting, now.waiting),
        ];
        for (gauge, value) in gauges {
            gauge.get_or_create(&PoolLabel { pool: pool.label() }).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// So many paths are held back now.
    pub fn held_back(&self, paths: usize) {
        self.held_back.set(i64::try_from(paths).unwrap_or(i64::MAX));
    }

    /// Everything in a format.
    #[must_use]
    pub fn render(&self, format: Exposition) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        format.of(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_and_labels_are_those_that_dashboards_ask_for() {
        let metrics = Metrics::default();
        metrics.answered(Method::Get, "/{hash}.narinfo", 200, Duration::from_micros(200));
        metrics.operation(Opcode::QueryPathInfo, Outcome::Late);
        metrics.sent("/nar/{nar}").add(7);
        let flying = metrics.request();
        let text = metrics.render(Exposition::OpenMetrics);
        for line in [
            r#"harmonia_http_requests_total{method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="0.0001",method="GET",path="/{hash}.narinfo",status="200"} 0"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="0.00025",method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_bucket{le="1.0",method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_request_duration_seconds_count{method="GET",path="/{hash}.narinfo",status="200"} 1"#,
            r#"harmonia_http_response_bytes_total{path="/nar/{nar}"} 7"#,
            r#"harmonia_http_bodies_aborted_total{by="server"} 0"#,
            r#"harmonia_daemon_operations_total{op="QueryPathInfo",result="timeout"} 1"#,
            r#"harmonia_daemon_connection_attempts_total{result="error"} 0"#,
            "harmonia_http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(flying);
        assert!(metrics.render(Exposition::Classic).contains("harmonia_http_requests_in_flight 0\n"));
    }
}
