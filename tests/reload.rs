//! SIGHUP: new certificates and keys while the server runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::keys;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::served;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// What openssl is told to make, how it is told to write the key, and the label of what it then writes.
const KINDS: [(&str, &str, &str); 4] = [
    ("rsa:2048", "pkey", "BEGIN PRIVATE KEY"),
    ("rsa:2048", "rsa -traditional", "BEGIN RSA PRIVATE KEY"),
    ("ec -pkeyopt ec_paramgen_curve:prime256v1", "ec", "BEGIN EC PRIVATE KEY"),
    ("ed25519", "pkey", "BEGIN PRIVATE KEY"),
];

#[test]
fn new_signing_keys_sign_after_a_hangup_and_bad_ones_leave_the_old() {
    let item = StoreItem::file(b"signed");
    let daemon = ScriptedDaemon::start(item.script());
    let key = scratch::fresh_dir().join("secret");
    fs::copy(&keys::OURS.secret, &key).unwrap();
    let harmonia = Harmonia::start(&format!("{}sign_key_paths = [{key:?}]\n", daemon.config()));
    let signer = || {
        let narinfo = harmonia.http().get(&item.narinfo_url());
        served::value(narinfo.text(), "Sig").split(':').next().unwrap().to_owned()
    };
    assert_eq!(signer(), keys::OURS.name);

    fs::write(&key, "nonsense").unwrap();
    harmonia.hang_up();
    let error = harmonia.logged("ERROR the signing keys in use stay: ");
    assert!(error.ends_with(&format!("{} is not a signing key: no key name before a colon", key.display())), "{error}");
    assert_eq!(signer(), keys::OURS.name);

    fs::copy(&keys::FOREIGN.secret, &key).unwrap();
    harmonia.hang_up();
    harmonia.logged(&format!("INFO reloaded the signing keys: {}", keys::FOREIGN.public));
    assert_eq!(signer(), keys::FOREIGN.name);
}

/// Writes a new certificate for localhost and its key, of a kind that openssl makes.
fn certificate(directory: &Path, algorithm: &str, form: &str) -> CertificateDer<'static> {
    let script = "set -e; cd \"$0\"; openssl req -x509 -newkey $1 -noenc -keyout new -out cert.pem -days 2 \
                  -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE; \
                  openssl $2 -in new -out key.pem";
    let made = Command::new("sh").args(["-c", script]).arg(directory).args([algorithm, form]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pem = fs::read(directory.join("cert.pem")).unwrap();
    rustls_pemfile::certs(&mut pem.as_slice()).next().unwrap().unwrap()
}

/// Whether a client that trusts this certificate alone gets a connection, by HTTP/2.
async fn shakes_hands(harmonia: &Harmonia, trusted: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(harmonia.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    shaken.is_ok_and(|stream| stream.get_ref().1.alpn_protocol() == Some(b"h2"))
}

#[tokio::test]
async fn certificates_of_every_kind_are_taken_up_by_a_hangup_and_a_wrong_key_is_not() {
    let directory = scratch::fresh_dir();
    let mut current = certificate(&directory, KINDS[0].0, KINDS[0].1);
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let (certificate_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    let harmonia = Harmonia::start(&format!(
        "{}tls_cert_path = {certificate_file:?}\ntls_key_path = {key_file:?}\n",
        daemon.config()
    ));
    assert!(shakes_hands(&harmonia, &current).await);
    for (turn, (algorithm, form, label)) in KINDS.into_iter().enumerate() {
        let new = certificate(&directory, algorithm, form);
        let header = fs::read_to_string(&key_file).unwrap();
        assert!(header.contains(label), "{header}");
        harmonia.hang_up();
        harmonia.logged_times("INFO reloaded the certificate", turn + 1);
        assert!(shakes_hands(&harmonia, &new).await, "{label}");
        assert!(!shakes_hands(&harmonia, &current).await, "{label}");
        current = new;
    }
    let old_key = fs::read(&key_file).unwrap();
    certificate(&directory, KINDS[0].0, KINDS[0].1);
    fs::write(&key_file, old_key).unwrap();
    harmonia.hang_up();
    let error = harmonia.logged("ERROR the certificate in use stays: ");
    assert!(error.contains("cannot use certificate ") && error.contains("key.pem: "), "{error}");
    assert!(shakes_hands(&harmonia, &current).await);
}
