//! TLS of connections that harmonia opens: to issuers of tokens, and to the object store.
//!
//! One crypto library, and the certificate authorities of the system.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Reads the certificate authorities that the system trusts, or those in the file that `NIX_SSL_CERT_FILE` or
/// `SSL_CERT_FILE` names. Blocks on the disk. The error is a text without a full stop.
pub(crate) fn system_roots() -> Result<RootCertStore, String> {
    let found = match std::env::var_os("NIX_SSL_CERT_FILE") {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(file.as_ref()), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    // Some bundles have certificates that rustls does not take; the others are enough for the others' sites.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string));
    }
    Ok(roots)
}

/// Returns the settings of a client that speaks HTTP/1.1 and trusts these authorities.
pub(crate) fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
