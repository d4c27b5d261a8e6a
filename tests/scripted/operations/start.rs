//! Start and stop: log lines, exit, and sources of the configuration.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::sample;
use crate::support::http::Connection;
use crate::support::keys;
use crate::support::narinfo;
use crate::support::scratch;
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// Creates a configuration file with this text.
fn file(text: &str) -> PathBuf {
    let path = scratch::fresh_dir().join("harmonia.toml");
    fs::write(&path, text).unwrap();
    path
}

fn program(config: &Path) -> Command {
    let mut program = Harmonia::program();
    program.arg("--config").arg(config);
    program
}

#[test]
fn the_log_of_a_start_says_where_it_listens_what_it_serves_and_what_clients_need() {
    let harmonia = Harmonia::start(&sample::config());
    let public = &keys::OURS.public;
    let daemon = harmonia.wait_for_log("nix-daemon at ");
    assert!(daemon.contains("Nix 2.34.") && daemon.contains("protocol 1.38"), "{daemon}");
    for line in [
        format!(" INFO listening on {}", harmonia.url()),
        format!(" INFO signing with {public}"),
        format!(" nix.conf: extra-substituters = {}", harmonia.url()),
        format!(" nix.conf: extra-trusted-public-keys = {public}"),
    ] {
        assert!(harmonia.wait_for_log(&line).ends_with(&line), "{line}");
    }
    assert!(!harmonia.log().contains(" WARN ") && !harmonia.log().contains(" ERROR "), "{}", harmonia.log());
}

#[test]
fn files_that_are_not_where_they_should_be_are_warned_of() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let harmonia = Harmonia::start(&format!("{}real_nix_store = \"/nonexistent/nix/store\"\n", daemon.config()));
    let line = harmonia.wait_for_log("the store's files are not visible in /nonexistent/nix/store: ");
    assert!(line.contains(" WARN "), "{line}");
    harmonia.wait_for_log("  help: set real_nix_store to where /nix/store is on this machine");
}

#[test]
fn a_start_without_a_key_or_with_a_key_that_others_can_read_is_warned_of() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    Harmonia::start(&daemon.config()).wait_for_log(" WARN narinfos are not signed");

    let readable = scratch::fresh_dir().join("secret");
    fs::copy(&keys::OURS.secret, &readable).unwrap();
    fs::set_permissions(&readable, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let harmonia = Harmonia::start(&format!("{}sign_key_paths = [{readable:?}]\n", daemon.config()));
    assert!(harmonia.wait_for_log(" WARN ").contains(&readable.display().to_string()));
}

#[test]
fn a_file_written_for_harmonia_works_unchanged_with_a_warning_for_what_has_no_effect() {
    let config = file(&format!(
        "bind = \"127.0.0.1:0\"\nworkers = 4\nmax_connection_rate = 256\npriority = 30\nenable_compression = true\n\
         virtual_nix_store = \"/nix/store\"\nreal_nix_store = \"/guest/nix/store\"\n\
         nix_db_path = \"/nix/var/nix/db/db.sqlite\"\nsign_key_paths = [ {:?} ]\n\n[zstd]\nlevel = 5\n",
        keys::OURS.secret
    ));
    let mut harmonia = program(&config);
    harmonia.env("NIX_DAEMON_SOCKET_PATH", sample::socket()).env("CACHE_DIRECTORY", scratch::fresh_dir());
    let harmonia = Harmonia::launch(harmonia);
    let response = harmonia.http().get(&sample::narinfo_url("regular"));
    let narinfo = response.text();
    let but_for_the_nar = |text: &str| {
        text.lines()
            .filter(|line| !["URL", "Compression", "File"].iter().any(|of_the_nar| line.starts_with(of_the_nar)))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(but_for_the_nar(narinfo), but_for_the_nar(&sample::narinfo("regular")));
    assert!(narinfo.contains("\nCompression: zstd\n"), "{narinfo}");
    let log = harmonia.log();
    // The disk of a test machine may be smaller than the NAR cache may become.
    let is_about_keys = |line: &&str| line.contains(" WARN ") && !line.contains(" nar_cache.max_size is ");
    let warnings: Vec<_> = log.lines().filter(is_about_keys).collect();
    // The guest's store is not on this machine.
    let [key, files] = &warnings[..] else { panic!("{log}") };
    assert!(key.contains("nix_db_path has no effect") && files.contains("not visible in /guest/nix/store"), "{log}");
}

#[test]
fn the_environment_names_configuration_keys_and_daemon() {
    let config = file("bind = \"127.0.0.1:0\"\npriority = 7\n");
    let mut program = Harmonia::program();
    program
        .env("CONFIG_FILE", config)
        .env("SIGN_KEY_PATHS", format!("{} {}", keys::OURS.secret.display(), keys::FOREIGN.secret.display()))
        .env("NIX_DAEMON_SOCKET_PATH", sample::socket());
    let harmonia = Harmonia::launch(program);
    assert_eq!(narinfo::value(harmonia.http().get("/nix-cache-info").text(), "Priority"), "7");
    let narinfo = harmonia.http().get(&sample::narinfo_url("regular"));
    let signers: Vec<_> = narinfo::values(narinfo.text(), "Sig").iter().map(|sig| sig.split(':').next()).collect();
    assert_eq!(signers, [Some(keys::OURS.name), Some(keys::FOREIGN.name)]);
}

#[test]
fn a_signal_to_stop_lets_a_download_finish_and_exits_with_0() {
    let mut harmonia = Harmonia::start(&sample::config());
    let mut idle = Connection::open(harmonia.address()).unwrap();
    idle.send(b"GET /nix-cache-info HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
    assert_eq!(idle.receive(false).unwrap().status, 200);

    let mut running = TcpStream::connect(harmonia.address()).unwrap();
    let nar = sample::nar_url("large");
    running.write_all(format!("GET {nar} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
    let mut beginning = [0; 4096];
    running.read_exact(&mut beginning).unwrap();
    harmonia.terminate();
    harmonia.wait_for_log("stopping");
    let mut rest = Vec::new();
    running.read_to_end(&mut rest).unwrap();
    let expected = sample::http().get(&nar).body;
    let head = beginning.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(beginning.len() - head + rest.len(), expected.len());
    assert!(beginning[head..] == expected[..4096 - head] && rest == expected[4096 - head..]);
    assert!(idle.receive(false).is_err());
    assert_eq!(harmonia.ended().code(), Some(0));
    harmonia.wait_for_log("stopped");
}

#[test]
fn what_does_not_finish_in_time_or_before_a_second_signal_is_cut_and_the_status_is_0() {
    // More than the buffers of both sockets hold, for a client that does not read.
    let large = StoreItem::file_of(32 * 1024 * 1024);
    let daemon = ScriptedDaemon::start(large.script());
    for (timeout, cut) in [(0, "stopping with unfinished responses"), (86_400, "stopping at once")] {
        let mut harmonia = Harmonia::start(&format!("{}shutdown_timeout = {timeout}\n", daemon.config()));
        let mut running = TcpStream::connect(harmonia.address()).unwrap();
        running.write_all(format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", large.nar_url()).as_bytes()).unwrap();
        running.read_exact(&mut [0; 1]).unwrap();
        harmonia.terminate();
        let said = harmonia.wait_for_log("stopping");
        let waits = said.contains("stopping: waiting up to 86400 s for 1 download; a second signal stops at once");
        assert_eq!(waits, timeout > 0, "{said}");
        if timeout > 0 {
            harmonia.terminate();
        }
        harmonia.wait_for_log(cut);
        assert_eq!(harmonia.ended().code(), Some(0));
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_the_server() {
    let socket = scratch::fresh_dir().join("http");
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config =
        file(&format!("bind = \"unix:{}\"\nunix_socket_mode = \"0660\"\n{}", socket.display(), daemon.config()));
    let mut harmonia = Harmonia::launch(program(&config));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o660);
    harmonia.terminate();
    assert_eq!(harmonia.ended().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_unix_socket_is_replaced_after_the_server_was_killed() {
    let socket = scratch::fresh_dir().join("http");
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = file(&format!("bind = \"unix:{}\"\n{}", socket.display(), daemon.config()));
    for _ in 0..2 {
        let harmonia = Harmonia::launch(program(&config));
        assert_eq!(harmonia.url(), format!("unix:{}", socket.display()));
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nStoreDir: "), "{answer}");
        // The drop kills it, so that the socket stays.
    }
}

#[tokio::test]
async fn a_certificate_and_its_key_make_it_serve_https_alone() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = scratch::fresh_dir();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let harmonia =
        Harmonia::start(&format!("{}tls_cert_path = {certificate:?}\ntls_key_path = {key:?}\n", daemon.config()));
    assert!(harmonia.url().starts_with("https://"), "{}", harmonia.url());
    harmonia.wait_for_log(&format!("extra-substituters = {}", harmonia.url()));

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(harmonia.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /nix-cache-info HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // Without the closing alert the end would be an error.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nStoreDir: "), "{answer}");

    let plain = harmonia.http().request(b"GET /nix-cache-info HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(plain.is_err());
}
