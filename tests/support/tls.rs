//! A server with a certificate and an authority of client certificates, and clients of it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::scratch;

/// Certificate and key of a client.
pub(crate) struct ClientIdentity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// The certificate in PEM.
    pub(crate) certificate_pem: String,
    /// The key in PEM.
    pub(crate) key_pem: String,
}

/// An authority of client certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a certificate with this common name, changed by `change`.
    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientIdentity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        ClientIdentity { certificate: certificate.der().clone(), key: key.into(), certificate_pem, key_pem }
    }

    pub(crate) fn issue(&self, name: &str) -> ClientIdentity {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }
}

/// Files of a server with TLS.
pub(crate) struct Tls {
    pub(crate) client_ca: PathBuf,
    /// Certificate of the server in PEM, for `localhost` and `127.0.0.1`.
    pub(crate) server_pem: String,
    server: CertificateDer<'static>,
    /// Lines of the configuration, which belong above its tables. The certificate of a proxy names nobody, so there is none.
    pub(crate) config: String,
}

impl Tls {
    pub(crate) fn new(authority: &Authority) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        let directory = scratch::fresh_dir();
        let [certificate, key, client_ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| directory.join(name));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::write(&client_ca, authority.pem()).unwrap();
        let config = format!(
            "trusted_proxies = []\ntls_cert_path = \"{}\"\ntls_key_path = \"{}\"\n",
            certificate.display(),
            key.display()
        );
        Self { client_ca, server_pem: made.cert.pem(), server: made.cert.der().clone(), config }
    }

    /// Opens a connection of a client with this certificate, if any. With TLS 1.3 a rejected certificate shows at the first read.
    pub(crate) async fn connect(&self, address: SocketAddr, own: Option<&ClientIdentity>) -> io::Result<Https> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match own {
            Some(own) => builder.with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(Https)
    }

    /// Sends a GET on a connection of its own, and returns status and response.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        own: Option<&ClientIdentity>,
        path: &str,
        headers: &str,
    ) -> io::Result<(u16, String)> {
        self.connect(address, own).await?.get(path, headers).await
    }
}

/// A connection with TLS.
pub(crate) struct Https(TlsStream<TcpStream>);

impl Https {
    /// Sends a GET with these headers, and returns status and response.
    pub(crate) async fn get(&mut self, path: &str, headers: &str) -> io::Result<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await?;
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let count = self.0.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if length.is_none_or(|length: usize| body.len() >= length) {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                return Ok((status, text));
            }
        }
    }
}
