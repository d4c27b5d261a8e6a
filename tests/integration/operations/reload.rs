//! SIGHUP: reload of configuration, certificates and keys.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::nix::shared_server;
use crate::support::http::Connection;
use crate::support::keys::{self, Key};
use crate::support::metrics::value;
use crate::support::narinfo;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Arguments of openssl for the algorithm and for the format of the key, and the PEM label of the result.
const KINDS: [(&str, &str, &str); 4] = [
    ("rsa:2048", "pkey", "BEGIN PRIVATE KEY"),
    ("rsa:2048", "rsa -traditional", "BEGIN RSA PRIVATE KEY"),
    ("ec -pkeyopt ec_paramgen_curve:prime256v1", "ec", "BEGIN EC PRIVATE KEY"),
    ("ed25519", "pkey", "BEGIN PRIVATE KEY"),
];

#[test]
fn sighup_loads_new_signing_keys_and_keeps_the_old_ones_on_error() {
    let item = StoreItem::file(b"signed");
    let daemon = ScriptedDaemon::start(item.script());
    let key = scratch::fresh_dir().join("secret");
    fs::copy(&keys::OURS.secret, &key).unwrap();
    let harmonia = Harmonia::start(&format!("{}sign_key_paths = [{key:?}]\n", daemon.config()));
    let signer = || {
        let narinfo = harmonia.http().get(&item.narinfo_url());
        narinfo::value(narinfo.text(), "Sig").split(':').next().unwrap().to_owned()
    };
    assert_eq!(signer(), keys::OURS.name);

    fs::write(&key, "nonsense").unwrap();
    harmonia.reload();
    let error = harmonia.wait_for_log("ERROR reload failed, keeping the current signing keys: ");
    assert!(error.ends_with(&format!("{} is not a signing key: no key name before a colon", key.display())), "{error}");
    assert_eq!(signer(), keys::OURS.name);

    fs::copy(&keys::FOREIGN.secret, &key).unwrap();
    harmonia.reload();
    harmonia.wait_for_log(&format!("INFO reloaded the signing keys: {}", keys::FOREIGN.public));
    assert_eq!(signer(), keys::FOREIGN.name);
}

/// Server whose configuration file can be replaced.
struct Configured {
    file: PathBuf,
    harmonia: Harmonia,
}

impl Configured {
    fn start(config: &str) -> Self {
        let file = scratch::fresh_dir().join("config.toml");
        fs::write(&file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
        let mut program = Harmonia::program();
        program.arg("--config").arg(&file);
        Self { harmonia: Harmonia::launch(program), file }
    }

    /// Writes the file and reloads it.
    fn reload(&self, config: &str) {
        fs::write(&self.file, format!("bind = \"127.0.0.1:0\"\n{config}")).unwrap();
        self.harmonia.reload();
    }
}

#[test]
fn a_key_is_replaced_by_way_of_both_and_no_download_is_dropped() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let config = |keys: &[&Key]| {
        let keys: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key.secret.display())).collect();
        format!("daemon_socket = \"{}\"\nsign_key_paths = [{}]\n", daemon.socket().display(), keys.join(", "))
    };
    let (old, new) = (&*keys::OURS, &*keys::THIRD);
    let server = Configured::start(&config(&[old]));
    let mut running = TcpStream::connect(server.harmonia.address()).unwrap();
    let nar = shared_server::nar_url("large");
    running.write_all(format!("GET {nar} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    running.read_exact(&mut [0; 1]).unwrap();

    let path = daemon.content().path("many-references");
    let copies = |key: &Key| {
        let client = Client::new(Release::Nix2_26, server.harmonia.url(), &[key]);
        client.copy(&[path]).succeeded() && client.has(path)
    };
    for (keys, takes) in [(&[old][..], [true, false]), (&[old, new], [true, true]), (&[new], [false, true])] {
        if keys.len() != 1 || keys[0].name != old.name {
            server.reload(&config(keys));
            let names: Vec<_> = keys.iter().map(|key| key.public.as_str()).collect();
            server.harmonia.wait_for_log(&format!("INFO reloaded the signing keys: {}", names.join(" ")));
        }
        let narinfo = server.harmonia.http().get(&shared_server::narinfo_url("many-references"));
        let signers: Vec<_> = narinfo::values(narinfo.text(), "Sig").iter().map(|it| it.split(':').next()).collect();
        assert_eq!(signers, keys.iter().map(|key| Some(key.name)).collect::<Vec<_>>());
        assert_eq!([old, new].map(copies), takes, "{signers:?}");
    }
    server.harmonia.wait_for_log_times("INFO applied changed settings: sign_key_paths", 2);

    let mut answer = Vec::new();
    running.read_to_end(&mut answer).unwrap();
    let expected = shared_server::http().get(&nar).body;
    assert!(answer.ends_with(&expected), "{} bytes of {}", answer.len(), expected.len());
}

#[test]
fn limits_change_while_connections_are_open_and_what_needs_a_restart_is_named() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = |more: &str| format!("{}workers = 1\n{more}", daemon.config());
    let server = Configured::start(&config("max_connections = 1\n"));
    let ask = |connection: &mut Connection| {
        connection.send(b"GET /health HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    };
    let connect = || Connection::open(server.harmonia.address()).unwrap();
    let (mut first, mut second, mut third) = (connect(), connect(), connect());
    ask(&mut first);
    assert_eq!(first.receive(false).unwrap().status, 200);
    // The limit is one, so these wait in the kernel.
    ask(&mut second);
    ask(&mut third);
    server.reload(&config("max_connections = 2\n"));
    assert_eq!(second.receive(false).unwrap().status, 200);

    server.reload(&config("max_connections = 1\nworkerz = 2\n"));
    let error = server.harmonia.wait_for_log("ERROR reload failed, keeping the current configuration: ");
    assert!(error.ends_with("config.toml:5: unknown key \"workerz\""), "{error}");
    server.reload(&config("max_connections = 1\npriority = 5\nbuild_log_dir = \"/x\"\nnarinfo_cache.ttl = 5\n"));
    server.harmonia.wait_for_log("WARN changed settings that take effect after a restart: priority, build_log_dir");
    server.harmonia.wait_for_log("INFO applied changed settings: max_connections, narinfo_cache.ttl");
    // Now there is one too many, so that it takes the end of both.
    ask(&mut second);
    assert_eq!(second.receive(false).unwrap().status, 200);
    drop((first, second));
    assert_eq!(third.receive(false).unwrap().status, 200);
    let mut fourth = connect();
    ask(&mut fourth);
    for _ in 0..100 {
        ask(&mut third);
        assert_eq!(third.receive(false).unwrap().status, 200);
    }
    third.send(b"GET /metrics HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    let metrics = third.receive(false).unwrap();
    let asked = "harmonia_http_requests_total{method=\"GET\",path=\"/health\",status=\"200\"}";
    assert_eq!(value(metrics.text(), asked), Some(104.0), "the fourth was answered too");
    drop(third);
    assert_eq!(fourth.receive(false).unwrap().status, 200);
}

#[test]
fn what_is_trusted_changes_at_once_even_where_no_key_can_be_read() {
    let item = StoreItem::file(b"of unknown origin");
    let daemon = ScriptedDaemon::start(item.script());
    let key = scratch::fresh_dir().join("secret");
    fs::copy(&keys::OURS.secret, &key).unwrap();
    let config = |more: &str| format!("{}sign_key_paths = [{key:?}]\n{more}", daemon.config());
    let server = Configured::start(&config(""));
    let narinfo = || server.harmonia.http().get(&item.narinfo_url());
    assert!(narinfo().text().contains("\nSig: "));
    fs::remove_file(&key).unwrap();
    server.reload(&config("sign = \"trusted\"\n"));
    server.harmonia.wait_for_log("ERROR reload failed, keeping the current signing keys: ");
    assert!(!narinfo().text().contains("\nSig: "));
    fs::copy(&keys::OURS.secret, &key).unwrap();
    server.reload(&config("sign = \"trusted\"\nserve_untrusted = false\n"));
    server.harmonia.wait_for_log("INFO reloaded the signing keys: ");
    assert_eq!((narinfo().status, server.harmonia.http().get(&item.nar_url()).status), (404, 404));
    server.reload(&config(""));
    server.harmonia.wait_for_log_times("INFO reloaded the signing keys: ", 2);
    assert!(narinfo().text().contains("\nSig: "));
}

/// Writes a new certificate for localhost and its key, in one of openssl's formats.
fn certificate(directory: &Path, algorithm: &str, form: &str) -> CertificateDer<'static> {
    let script = "set -e; cd \"$0\"; openssl req -x509 -newkey $1 -noenc -keyout new -out cert.pem -days 2 \
                  -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE; \
                  openssl $2 -in new -out key.pem";
    let made = Command::new("sh").args(["-c", script]).arg(directory).args([algorithm, form]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pem = fs::read(directory.join("cert.pem")).unwrap();
    rustls_pemfile::certs(&mut pem.as_slice()).next().unwrap().unwrap()
}

/// Returns whether a client that trusts only this certificate can connect, by HTTP/2.
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
async fn sighup_loads_certificates_of_every_kind_and_refuses_a_wrong_key() {
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
        harmonia.reload();
        harmonia.wait_for_log_times("INFO reloaded the certificate", turn + 1);
        assert!(shakes_hands(&harmonia, &new).await, "{label}");
        assert!(!shakes_hands(&harmonia, &current).await, "{label}");
        current = new;
    }
    let old_key = fs::read(&key_file).unwrap();
    certificate(&directory, KINDS[0].0, KINDS[0].1);
    fs::write(&key_file, old_key).unwrap();
    harmonia.reload();
    let error = harmonia.wait_for_log("ERROR reload failed, keeping the current certificate: ");
    assert!(error.contains("cannot use certificate ") && error.contains("key.pem: "), "{error}");
    assert!(shakes_hands(&harmonia, &current).await);
}
