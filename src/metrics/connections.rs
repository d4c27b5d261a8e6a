//! Open client connections, by state.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// State of an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// Waiting, because the limit on connections is reached.
    Waiting,
    /// With a request in flight.
    Active,
    /// Without a request in flight.
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Counts open connections by state. Clones share the counts.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionGauges([Gauge; ConnectionState::ALL.len()]);

impl ConnectionGauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<StateLabel, Gauge>::default();
        registry.register("http_connections", "Open client connections, by state", family.clone());
        Self(ConnectionState::ALL.map(|state| family.get_or_create_owned(&StateLabel { state: state.label() })))
    }

    /// Adds a connection in this state.
    pub(crate) fn add(&self, state: ConnectionState) {
        self.0[state as usize].inc();
    }

    /// Removes a connection that was in this state.
    pub(crate) fn remove(&self, state: ConnectionState) {
        self.0[state as usize].dec();
    }

    /// Moves a connection from `state` to `new`.
    pub(crate) fn change(&self, state: &mut ConnectionState, new: ConnectionState) {
        if *state != new {
            self.remove(*state);
            self.add(new);
            *state = new;
        }
    }
}
