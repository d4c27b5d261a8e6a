//! Handshakes: with the server's identity, and with client certificates if there is an authority for them.
//!
//! A client certificate is asked for and not demanded. If one is sent it must be valid now, for TLS clients, and issued by an
//! authority of the file; else the handshake fails. What it says of the client is decided once, here: no header can say it.
//!
//! With client certificates no session is resumed and there is no early data, so each connection's name comes from a certificate
//! that was verified by the authorities in force, and from nowhere else. The authorities can be replaced; open connections keep
//! the names that they began with.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::client_ca::ClientCa;
use super::client_name::client_name;
use super::error::TlsError;
use super::identity::Identity;
use crate::config::{StoreDirectories, TlsConfig};
use crate::metrics::{ClientCertificate, Metrics};
use crate::sync::LogThrottle;

/// The server's side of TLS: its identity, and the authorities of client certificates.
#[derive(Debug)]
pub(crate) struct TlsServer {
    identity: Arc<Identity>,
    current: ArcSwap<ServerConfig>,
    has_client_ca: AtomicBool,
    metrics: Arc<Metrics>,
    log_lines: LogThrottle<LogLine>,
}

/// Kind of a log line about client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LogLine {
    Unnamed,
    Rejected,
    OfProxy,
}

impl TlsServer {
    /// Reads the server's certificate and key, and the authorities of client certificates if there is a file of them.
    pub(crate) fn load(
        files: &TlsConfig,
        client_ca: Option<&Path>,
        stores: &StoreDirectories,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, TlsError> {
        let identity = Identity::load(files, stores)?;
        let current = ArcSwap::from_pointee(configure(&identity, client_ca)?);
        let has_client_ca = AtomicBool::new(client_ca.is_some());
        let metrics = Arc::clone(metrics);
        Ok(Arc::new(Self { identity, current, has_client_ca, metrics, log_lines: LogThrottle::default() }))
    }

    /// Reads the server's certificate and key again. On an error the current ones stay in use.
    pub(crate) fn replace_identity(&self, files: &TlsConfig, stores: &StoreDirectories) -> Result<(), TlsError> {
        self.identity.replace(files, stores)
    }

    /// Reads the authorities of client certificates again, for later handshakes; `None` to ask for no more certificates. Returns
    /// whether there are or were any. On an error the current ones stay in use.
    pub(crate) fn replace_client_ca(&self, client_ca: Option<&Path>) -> Result<bool, TlsError> {
        if client_ca.is_none() && !self.has_client_ca.load(Ordering::Relaxed) {
            // Sessions can still be resumed.
            return Ok(false);
        }
        self.current.store(Arc::new(configure(&self.identity, client_ca)?));
        self.has_client_ca.store(client_ca.is_some(), Ordering::Relaxed);
        Ok(true)
    }

    /// Returns the expiry of the server's certificate, in seconds since 1970, or `None` if it cannot be parsed.
    pub(crate) fn not_after(&self) -> Option<i64> {
        self.identity.not_after()
    }

    /// Performs the handshake on the connection of a client at this address. Returns the client's name, if it has a certificate
    /// that has one. That of a trusted proxy says nothing of the proxy's clients, and is not returned.
    pub(in crate::net) async fn accept<S>(
        &self,
        socket: S,
        (address, is_proxy): (Option<IpAddr>, bool),
    ) -> io::Result<(TlsStream<S>, Option<Arc<str>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.current.load_full()).accept(socket).await;
        let stream = handshake.inspect_err(|error| self.log_rejected(error, address))?;
        let mut name = self.client_name(stream.get_ref().1.peer_certificates(), address);
        if let Some(name) = name.take_if(|_| is_proxy) {
            self.metrics.client_certificates.record(ClientCertificate::OfProxy);
            self.log_ignored(&name, address);
        } else if name.is_some() {
            self.metrics.client_certificates.record(ClientCertificate::Named);
        }
        Ok((stream, name))
    }

    fn client_name(
        &self,
        chain: Option<&[rustls::pki_types::CertificateDer<'_>]>,
        address: Option<IpAddr>,
    ) -> Option<Arc<str>> {
        match client_name(chain?.first()?) {
            Ok(name) => Some(name),
            Err(why) => {
                self.metrics.client_certificates.record(ClientCertificate::Unnamed);
                if let Some(more) = self.log_lines.admit(LogLine::Unnamed) {
                    let address = address.map(tracing::field::display);
                    tracing::warn!(
                        address,
                        "a client certificate names nobody{more}: {why}\n  help: issue one with a common name of printable \
                         ASCII characters, without a wildcard"
                    );
                }
                None
            }
        }
    }

    /// Logs that a trusted proxy has a certificate. It may be a client that counts as a proxy because it runs on this machine.
    fn log_ignored(&self, name: &str, address: Option<IpAddr>) {
        if let Some(more) = self.log_lines.admit(LogLine::OfProxy) {
            let address = address.map(tracing::field::display);
            tracing::info!(
                address,
                "ignored the client certificate of {name:?}, which is a trusted proxy{more}\n  help: if it is none, remove its \
                 address from trusted_proxies"
            );
        }
    }

    /// Logs that a client certificate was rejected, which its client may not show.
    fn log_rejected(&self, error: &io::Error, address: Option<IpAddr>) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        let Some(rustls::Error::InvalidCertificate(cause)) = cause else { return };
        self.metrics.client_certificates.record(ClientCertificate::Rejected);
        // Any stranger can cause it: no warning.
        if let Some(more) = self.log_lines.admit(LogLine::Rejected) {
            let address = address.map(tracing::field::display);
            tracing::info!(address, "rejected a client certificate{more}: {cause}");
        }
    }
}

fn configure(identity: &Arc<Identity>, client_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?;
    let resolver = Arc::clone(identity) as _;
    let mut config = match client_ca {
        None => builder.with_no_client_auth().with_cert_resolver(resolver),
        Some(path) => {
            let verifier = ClientCa::load(path)?.verifier();
            let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
            // A resumed session would bring its name from an earlier handshake, by a certificate that has expired since or whose
            // authority was replaced.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
