//! Metrics of nix-daemon: operations, connection attempts, and connection pools.

use harmonia_protocol::operation::Opcode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ResultLabel, gauge_value};

/// Outcome of an operation of nix-daemon, or of an attempt to connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Success.
    Ok,
    /// nix-daemon or the connection failed.
    Error,
    /// Timeout.
    Timeout,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// A pool of connections to nix-daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolName {
    /// Connections for all operations but those that send NARs.
    Metadata,
    /// Connections for NARs.
    Nar,
}

impl PoolName {
    const fn label(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Nar => "nar",
        }
    }
}

/// Connections of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolUsage {
    /// Maximum number of connections.
    pub max_size: usize,
    /// Open connections.
    pub size: usize,
    /// Connections in use.
    pub in_use: usize,
    /// Requests waiting for a connection.
    pub waiting: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    op: Op,
    result: &'static str,
}

/// An operation, by its name in the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Op(Opcode);

impl EncodeLabelValue for Op {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        std::fmt::Write::write_fmt(encoder, format_args!("{:?}", self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

#[derive(Debug)]
pub(crate) struct DaemonMetrics {
    operations: Family<OperationLabels, Counter>,
    connection_attempts: Family<ResultLabel, Counter>,
    up: Gauge,
    max_sizes: Family<PoolLabel, Gauge>,
    sizes: Family<PoolLabel, Gauge>,
    in_use: Family<PoolLabel, Gauge>,
    waiting: Family<PoolLabel, Gauge>,
}

impl DaemonMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let operations = Family::default();
        let help = "Operations of nix-daemon, by result; a NAR counts when it begins";
        registry.register("daemon_operations", help, operations.clone());
        let connection_attempts = Family::<ResultLabel, Counter>::default();
        let help = "Attempts to connect to nix-daemon, by result";
        registry.register("daemon_connection_attempts", help, connection_attempts.clone());
        // Series that start at 0 show their first event.
        for result in [Outcome::Ok, Outcome::Error, Outcome::Timeout] {
            connection_attempts.get_or_create_owned(&ResultLabel { result: result.label() });
        }
        let up = Gauge::default();
        registry.register("daemon_up", "Whether the last attempt to connect to nix-daemon succeeded", up.clone());
        let mut pool = |name, help| {
            let family = Family::default();
            registry.register(name, help, Family::clone(&family));
            family
        };
        Self {
            operations,
            connection_attempts,
            up,
            max_sizes: pool("daemon_pool_max_size", "Maximum number of connections to nix-daemon"),
            sizes: pool("daemon_pool_size", "Open connections to nix-daemon"),
            in_use: pool("daemon_pool_in_use", "Connections to nix-daemon in use"),
            waiting: pool("daemon_pool_waiting", "Requests waiting for a connection to nix-daemon"),
        }
    }

    pub(crate) fn record_operation(&self, op: Opcode, outcome: Outcome) {
        self.operations.get_or_create(&OperationLabels { op: Op(op), result: outcome.label() }).inc();
    }

    pub(crate) fn record_connection_attempt(&self, outcome: Outcome) {
        self.connection_attempts.get_or_create(&ResultLabel { result: outcome.label() }).inc();
    }

    /// Sets whether the last attempt to connect succeeded.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.set(is_up.into());
    }

    pub(crate) fn set_pool_usage(&self, pool: PoolName, usage: PoolUsage) {
        let gauges = [
            (&self.max_sizes, usage.max_size),
            (&self.sizes, usage.size),
            (&self.in_use, usage.in_use),
            (&self.waiting, usage.waiting),
        ];
        for (gauge, value) in gauges {
            gauge.get_or_create(&PoolLabel { pool: pool.label() }).set(gauge_value(value));
        }
    }
}
