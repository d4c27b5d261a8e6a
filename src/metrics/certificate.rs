//! Expiry of the TLS certificate.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::sync::Mutex;

/// Expiry of the certificate, in seconds since 1970. There is no series without TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct CertificateExpiry(Arc<Mutex<Option<i64>>>);

impl CertificateExpiry {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let expiry = Self::default();
        registry.register_collector(Box::new(expiry.clone()));
        expiry
    }

    /// Sets the expiry in seconds since 1970, or `None` if it cannot be read.
    pub(crate) fn set(&self, not_after: Option<i64>) {
        *self.0.lock() = not_after;
    }
}

impl Collector for CertificateExpiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(expiry) = *self.0.lock() else { return Ok(()) };
        let name = "tls_certificate_expiry_timestamp_seconds";
        let help = "Expiry of the TLS certificate in use, in seconds since 1970";
        ConstGauge::new(expiry).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
