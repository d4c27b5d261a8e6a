//! Permits reclaimed from clients, by resource.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabel {
    resource: &'static str,
}

#[derive(Debug)]
pub(super) struct ReclaimedMetrics(Family<ResourceLabel, Counter>);

impl ReclaimedMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        let help = "Permits reclaimed from idle or slow clients while others waited, by resource";
        registry.register("reclaimed", help, family.clone());
        Self(family)
    }

    pub(super) fn of(&self, resource: &'static str) -> Reclaimed {
        Reclaimed(self.0.get_or_create_owned(&ResourceLabel { resource }))
    }
}

/// Counts reclaimed permits of one resource.
#[derive(Debug, Clone)]
pub struct Reclaimed(Counter);

impl Reclaimed {
    /// Adds one.
    pub fn increment(&self) {
        self.0.inc();
    }
}
