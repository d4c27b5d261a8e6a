//! Metrics of client certificates.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::ResultLabel;

/// Result of a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    /// It names its client.
    Named,
    /// It is valid, but its name cannot be used.
    Unnamed,
    /// It is that of a trusted proxy, and says nothing of the proxy's clients.
    OfProxy,
    /// It is not valid, so the handshake failed.
    Rejected,
}

#[derive(Debug)]
pub(crate) struct ClientCertificateMetrics(Family<ResultLabel, Counter>);

impl ClientCertificateMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<ResultLabel, Counter>::default();
        let help = "Client certificates in TLS handshakes, by result";
        registry.register("tls_client_certificates", help, family.clone());
        for certificate in [
            ClientCertificate::Named,
            ClientCertificate::Unnamed,
            ClientCertificate::OfProxy,
            ClientCertificate::Rejected,
        ] {
            family.get_or_create_owned(&label(certificate));
        }
        Self(family)
    }

    /// Counts the certificate of a client.
    pub(crate) fn record(&self, certificate: ClientCertificate) {
        self.0.get_or_create_owned(&label(certificate)).inc();
    }
}

const fn label(certificate: ClientCertificate) -> ResultLabel {
    let result = match certificate {
        ClientCertificate::Named => "named",
        ClientCertificate::Unnamed => "unnamed",
        ClientCertificate::OfProxy => "of_proxy",
        ClientCertificate::Rejected => "rejected",
    };
    ResultLabel { result }
}
