//! Facts of the program: its release, and how long it can be trusted.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::sync::Mutex;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    arch: &'static str,
}

/// The end of the certificate, in seconds since 1970; nothing without TLS.
#[derive(Debug, Clone, Default)]
pub(super) struct CertificateExpiry(Arc<Mutex<Option<i64>>>);

impl Collector for CertificateExpiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(expiry) = *self.0.lock() else { return Ok(()) };
        let (name, help) = ("tls_certificate_expiry_timestamp_seconds", "When the certificate in use ends");
        ConstGauge::new(expiry).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

/// Registers them, and returns what sets the end of the certificate.
pub(super) fn register(registry: &mut Registry) -> CertificateExpiry {
    let build = Family::<BuildLabels, Gauge>::default();
    registry.register("build_info", "1, with the release as labels", build.clone());
    let labels = BuildLabels { version: env!("CARGO_PKG_VERSION"), arch: std::env::consts::ARCH };
    build.get_or_create_owned(&labels).set(1);
    let expiry = CertificateExpiry::default();
    registry.register_collector(Box::new(expiry.clone()));
    expiry
}

impl Metrics {
    /// The certificate in use ends then, in seconds since 1970. `None` if that cannot be read.
    pub fn certificate_expiry(&self, not_after: Option<i64>) {
        *self.certificate.0.lock() = not_after;
    }
}
