//! What is counted of what clients share: connections, and what is taken back.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

/// What an open connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Waits for its turn to be served, because there are as many as may be.
    Waiting,
    /// Has a request in flight.
    Active,
    /// Has none.
    Idle,
}

impl ConnectionState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Active, Self::Idle];

    const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Idle => "idle",
        }
    }
}

/// Counts open connections by their states. Clones share it.
#[derive(Debug, Clone)]
pub struct Connections([Gauge; ConnectionState::ALL.len()]);

impl Connections {
    /// One more is in this state.
    pub fn add(&self, state: ConnectionState) {
        self.0[state as usize].inc();
    }

    /// One that was in this state has ended.
    pub fn remove(&self, state: ConnectionState) {
        self.0[state as usize].dec();
    }

    /// One goes to the state `is`, if it is in another.
    pub fn change(&self, state: &mut ConnectionState, is: ConnectionState) {
        if *state != is {
            self.remove(*state);
            self.add(is);
            *state = is;
        }
    }
}

/// Counts what is taken back of one scarce thing.
#[derive(Debug, Clone)]
pub struct Reclaimed(Counter);

impl Reclaimed {
    /// Adds one.
    pub fn increment(&self) {
        self.0.inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabel {
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug)]
pub(super) struct ScarceMetrics {
    reclaimed: Family<ResourceLabel, Counter>,
    connections: Family<StateLabel, Gauge>,
}

impl ScarceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reclaimed = Family::default();
        let help = "Permits taken back from idle or slow clients while others waited";
        registry.register("reclaimed", help, reclaimed.clone());
        let connections = Family::<StateLabel, Gauge>::default();
        registry.register("http_connections", "Open connections of clients", connections.clone());
        for state in ConnectionState::ALL {
            connections.get_or_create_owned(&StateLabel { state: state.label() });
        }
        Self { reclaimed, connections }
    }
}

impl Metrics {
    /// Where it is counted that something of this kind was taken back.
    #[must_use]
    pub fn reclaimed(&self, resource: &'static str) -> Reclaimed {
        Reclaimed(self.scarce.reclaimed.get_or_create_owned(&ResourceLabel { resource }))
    }

    /// Where open connections are counted.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections(
            ConnectionState::ALL
                .map(|state| self.scarce.connections.get_or_create_owned(&StateLabel { state: state.label() })),
        )
    }
}
