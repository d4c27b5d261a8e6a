//! Handshakes of clients with all kinds of certificates, over a stream in memory.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

type ClientCertificate = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn issue(authority: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), key.into())
}

fn client_of(authority: &Authority, name: &str) -> ClientCertificate {
    issue(authority, name, |_| {})
}

/// A server, and what its clients need.
struct Fixture {
    server: Arc<TlsServer>,
    server_certificate: CertificateDer<'static>,
    client_ca: PathBuf,
    _files: tempfile::TempDir,
}

impl Fixture {
    fn new(authorities: &[&Authority]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let [cert, key, client_ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| files.path().join(name));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        write_authorities(&client_ca, authorities);
        let authorities = (!authorities.is_empty()).then_some(&*client_ca);
        let server =
            TlsServer::load(&TlsConfig { cert, key }, authorities, &StoreDirectories::default(), &Arc::default())
                .unwrap();
        Self { server, server_certificate: made.cert.der().clone(), client_ca, _files: files }
    }

    fn client(&self, version: &'static SupportedProtocolVersion, own: Option<ClientCertificate>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        TlsConnector::from(Arc::new(match own {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        }))
    }

    /// Returns the name by which the server knows this client, and whether the session was resumed.
    async fn connect(&self, client: &TlsConnector) -> io::Result<(Option<Arc<str>>, HandshakeKind)> {
        let (here, there) = tokio::io::duplex(64 << 10);
        let server = async {
            let (mut stream, name) = self.server.accept(there, (None, false)).await?;
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            stream.write_all(b"!").await?;
            stream.flush().await?;
            let _ = stream.read_u8().await;
            Ok((name, kind))
        };
        let client = async {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = client.connect(name, here).await?;
            // Tickets come before the data.
            stream.read_u8().await?;
            stream.shutdown().await
        };
        let (named, _) = tokio::join!(server, client);
        named
    }

    async fn name(&self, own: Option<ClientCertificate>) -> io::Result<Option<Arc<str>>> {
        self.connect(&self.client(&TLS13, own)).await.map(|(name, _)| name)
    }
}

fn write_authorities(file: &Path, authorities: &[&Authority]) {
    fs::write(file, authorities.iter().map(|authority| authority.pem()).collect::<String>()).unwrap();
}

#[tokio::test]
async fn a_certificate_of_an_authority_names_its_client_and_none_is_demanded() {
    let (one, other) = (authority("one"), authority("other"));
    let fixture = Fixture::new(&[&one, &other]);
    for version in [&TLS12, &TLS13] {
        for (own, expected) in [
            (None, None),
            (Some(client_of(&one, "alice")), Some("alice")),
            (Some(client_of(&other, "bob")), Some("bob")),
            (Some(client_of(&one, "*")), None),
            (Some(client_of(&one, "alice\0.example")), None),
        ] {
            let (name, _) = fixture.connect(&fixture.client(version, own)).await.unwrap();
            assert_eq!(name.as_deref(), expected);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_fails_the_handshake() {
    let (ours, strange) = (authority("ca"), authority("ca"));
    let fixture = Fixture::new(&[&ours]);
    let expired = issue(&ours, "alice", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let future = issue(&ours, "alice", |params| params.not_before = date_time_ymd(2999, 1, 1));
    let of_server =
        issue(&ours, "alice", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let itself = rcgen::generate_simple_self_signed(["alice".to_owned()]).unwrap();
    let itself = (itself.cert.der().clone(), itself.signing_key.into());
    // The right certificate with another key.
    let stolen = (client_of(&ours, "alice").0, client_of(&ours, "alice").1);
    let strange = client_of(&strange, "alice");
    for version in [&TLS12, &TLS13] {
        for own in [&expired, &future, &of_server, &itself, &strange] {
            let client = fixture.client(version, Some((own.0.clone(), own.1.clone_key())));
            let error = fixture.connect(&client).await.unwrap_err();
            assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add(fixture.server_certificate.clone()).unwrap();
    let key = ring::sign::any_supported_type(&stolen.1).unwrap();
    let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(vec![stolen.0], key));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(resolver));
    assert!(fixture.connect(&TlsConnector::from(Arc::new(config))).await.is_err());
}

#[tokio::test]
async fn without_an_authority_no_certificate_is_asked_for() {
    let fixture = Fixture::new(&[]);
    let own = client_of(&authority("ca"), "alice");
    assert_eq!(fixture.name(Some(own)).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_is_resumed_only_without_client_certificates() {
    let ours = authority("ca");
    for version in [&TLS12, &TLS13] {
        let plain = Fixture::new(&[]);
        let client = plain.client(version, None);
        assert_eq!(plain.connect(&client).await.unwrap().1, HandshakeKind::Full);
        assert_eq!(plain.connect(&client).await.unwrap().1, HandshakeKind::Resumed);

        let fixture = Fixture::new(&[&ours]);
        let client = fixture.client(version, Some(client_of(&ours, "alice")));
        for _ in 0..3 {
            let (name, kind) = fixture.connect(&client).await.unwrap();
            assert_eq!((name.as_deref(), kind), (Some("alice"), HandshakeKind::Full));
        }
        // Nor by a session from before there were authorities.
        let client = plain.client(version, None);
        plain.connect(&client).await.unwrap();
        write_authorities(&plain.client_ca, &[&ours]);
        plain.server.replace_client_ca(Some(&plain.client_ca)).unwrap();
        assert_eq!(plain.connect(&client).await.unwrap(), (None, HandshakeKind::Full));
    }
}

#[tokio::test]
async fn authorities_are_replaced_for_later_handshakes_and_a_bad_file_changes_nothing() {
    let (old, new) = (authority("old"), authority("new"));
    let fixture = Fixture::new(&[&old]);
    let name = |authority| fixture.name(Some(client_of(authority, "alice")));
    assert_eq!(name(&old).await.unwrap().as_deref(), Some("alice"));
    assert!(name(&new).await.is_err());

    fs::write(&fixture.client_ca, "no certificate").unwrap();
    assert!(fixture.server.replace_client_ca(Some(&fixture.client_ca)).is_err());
    assert_eq!(name(&old).await.unwrap().as_deref(), Some("alice"));

    write_authorities(&fixture.client_ca, &[&new]);
    fixture.server.replace_client_ca(Some(&fixture.client_ca)).unwrap();
    assert!(name(&old).await.is_err());
    assert_eq!(name(&new).await.unwrap().as_deref(), Some("alice"));

    fixture.server.replace_client_ca(None).unwrap();
    assert_eq!(name(&new).await.unwrap(), None);
}
