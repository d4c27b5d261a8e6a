//! Certificate authorities that issue client certificates, from a PEM file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

use super::certificate::CertificateInfo;
use super::error::TlsError;
use crate::config::Config;

/// Limit of certificates in the file: their names are sent to each client, in a message of at most 64 KiB.
const MAX_AUTHORITIES: usize = 100;

/// Certificate authorities whose certificates name clients.
#[derive(Debug)]
pub(crate) struct ClientCa {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCa {
    /// Returns the file of a configuration, if it has one.
    #[must_use]
    pub(crate) fn configured(config: &Config) -> Option<&Path> {
        config.access.as_ref()?.client_ca_path.as_deref()
    }

    /// Reads the certificates in the file, each of which is trusted.
    pub(crate) fn load(path: &Path) -> Result<Self, TlsError> {
        let path_of = || path.to_owned();
        let pem = fs::read(path).map_err(|cause| TlsError::ReadClientCa { path: path_of(), cause })?;
        let certificates = rustls_pemfile::certs(&mut pem.as_slice())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|cause| TlsError::Pem { path: path_of(), cause })?;
        if certificates.is_empty() {
            return Err(TlsError::NoClientCa(path_of()));
        }
        if certificates.len() > MAX_AUTHORITIES {
            return Err(TlsError::ManyClientCas { path: path_of(), found: certificates.len(), max: MAX_AUTHORITIES });
        }
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            let refused = |cause| TlsError::ClientCa { path: path_of(), number: index + 1, cause };
            roots.add(certificate.clone()).map_err(refused)?;
        }
        // Anonymous clients and those with a password connect too.
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
        let verifier = builder.allow_unauthenticated().build().map_err(TlsError::ClientVerifier)?;
        Ok(Self { certificates, verifier })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Returns names and validity of the authorities, as far as they can be parsed.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = CertificateInfo> {
        self.certificates.iter().filter_map(|der| CertificateInfo::from_der(der))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ClientCa, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        ClientCa::load(file.path()).map_err(|error| {
            let message = error.to_string();
            assert!(message.contains(file.path().to_str().unwrap()) && message.contains("\n  help: "), "{message}");
            message
        })
    }

    #[test]
    fn a_bundle_has_one_or_more_certificates() {
        let [one, other] = ["one", "other"].map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
        let bundle = load(&[one.cert.pem(), other.cert.pem()].concat()).unwrap();
        assert_eq!(bundle.authorities().map(|authority| authority.names).collect::<Vec<_>>(), [["one"], ["other"]]);
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for (text, message) in [
            ("", "no certificate in "),
            (&*one.signing_key.serialize_pem(), "no certificate in "),
            ("-----BEGIN CERTIFICATE-----\n", "cannot read "),
            (&*[&*one.cert.pem(), broken].concat(), "cannot use certificate 2 in "),
            (&*one.cert.pem().repeat(101), "101 certificates in "),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        let missing = ClientCa::load("/nonexistent/ca.pem".as_ref()).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read /nonexistent/ca.pem: "), "{missing}");
    }
}
