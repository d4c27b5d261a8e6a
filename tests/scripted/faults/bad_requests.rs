//! Invalid requests: each gets a 4xx or its connection is closed, and the server keeps running.
//! Malformed ranges are in `endpoints/ranges.rs`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::sample;
use crate::support::http::Connection;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

/// Starts a server with a daemon that expects no query.
fn unasked() -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(Script::replying(|query| panic!("asked {query:?}")));
    let harmonia = Harmonia::start(&daemon.config());
    (daemon, harmonia)
}

#[test]
fn malformed_hashes_are_a_404_without_a_query() {
    let (daemon, harmonia) = unasked();
    let nar_hash = "0".repeat(52);
    for file in [
        HASH[1..].to_owned(),
        format!("{HASH}0"),
        "0".repeat(52),
        "0".repeat(64),
        String::new(),
        HASH.to_uppercase(),
        HASH.replace('0', "e"),
        HASH.replace('0', "u"),
        HASH.replace('0', "%00"),
        HASH.replace('0', "%2f"),
        HASH.replace('0', "+"),
        format!("{HASH}-hello"),
        format!("../{HASH}"),
        format!("..%2f{HASH}"),
        format!("%2e%2e/{HASH}"),
        format!("{HASH}%0a"),
        format!("%20{HASH}"),
        format!("{HASH}%c3%a9"),
    ] {
        for url in [
            format!("/{file}.narinfo"),
            format!("/nar/{file}-{nar_hash}.nar"),
            format!("/nar/{nar_hash}.nar?hash={file}"),
            format!("/nar/{HASH}-{file}.nar"),
        ] {
            // Of 52 characters it is no hash part, but the hash of a NAR.
            if file.len() == 52 && url.starts_with(&format!("/nar/{HASH}-")) {
                continue;
            }
            assert_eq!(harmonia.http().get(&url).status, 404, "{url}");
        }
    }
    for url in [&*format!("/{HASH}x"), &format!("/{HASH}.narinfo.narinfo"), "/nar/", "/.narinfo"] {
        assert_eq!(harmonia.http().get(url).status, 404, "{url}");
    }
    assert_eq!(daemon.seen().queries, []);
}

/// Returns the statuses of all responses on a connection, up to its close.
fn statuses(address: SocketAddr, request: &[u8]) -> Vec<u16> {
    let mut connection = Connection::open(address).unwrap();
    // The server may close before it has read all of it.
    let _ = connection.send(request);
    let mut statuses = Vec::new();
    while let Ok(response) = connection.receive(false) {
        statuses.push(response.status);
        if response.header("connection") == Some("close") {
            break;
        }
    }
    statuses
}

#[test]
fn requests_that_are_not_http_are_refused_and_the_server_keeps_running() {
    let (daemon, harmonia) = unasked();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").into_bytes();
    let with = |headers: &str| format!("GET / HTTP/1.1\r\nHost: c\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    let narinfo = format!("/{HASH}.narinfo");
    let many_headers = "X-Many: 1\r\n".repeat(200);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a NUL in the target", get(&format!("{narinfo}\0"))),
        ("control characters in the target", get(&format!("/\x01\x1b[31m{narinfo}"))),
        ("a space in the target", get(&format!("{narinfo} x"))),
        ("a target of 64 KiB", get(&format!("/{}", "a".repeat(64 << 10)))),
        ("a target of 1 MiB", get(&format!("/{}", "a".repeat(1 << 20)))),
        ("a target of many segments", get(&"/x".repeat(10_000))),
        ("no target", b"GET HTTP/1.1\r\n\r\n".to_vec()),
        ("200 headers", with(&many_headers)),
        ("a header of 1 MiB", with(&format!("X: {}\r\n", "a".repeat(1 << 20)))),
        ("a header without a colon", with("X\r\n")),
        ("a NUL in a header", with("X: a\0b\r\n")),
        ("two lengths", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()),
        ("a length that is none", with("Content-Length: -1\r\n")),
        ("an endless length", with("Content-Length: 99999999999999999999999\r\n")),
        ("a chunk that is none", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n".to_vec()),
        ("an unknown version", b"GET / HTTP/3.7\r\n\r\n".to_vec()),
        ("a shell's word", b"ls -la\r\n\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("a broken preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0".to_vec()),
        ("CONNECT", b"CONNECT cache:443 HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n".to_vec()),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("two hosts", with("Host: c\r\n")),
        ("a host that is none", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec()),
        ("a narinfo of no host", format!("GET {narinfo} HTTP/1.1\r\n\r\n").into_bytes()),
        ("a write to no host", b"PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\na".to_vec()),
    ];
    for (case, request) in cases {
        let statuses = statuses(harmonia.address(), &request);
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{case}: {statuses:?}");
        assert_eq!(harmonia.http().get("/nix-cache-info").status, 200, "after: {case}");
    }
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn a_line_end_in_the_target_makes_no_second_request() {
    let (daemon, harmonia) = unasked();
    let smuggled = format!("GET /nix-cache-info\r\nX: y\r\n\r\nGET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(statuses(harmonia.address(), smuggled.as_bytes()).iter().all(|status| *status == 400));
    let hidden = format!(
        "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n"
    );
    let statuses = statuses(harmonia.address(), hidden.as_bytes());
    assert!(statuses.len() <= 1 && statuses.iter().all(|status| (400..500).contains(status)), "{statuses:?}");
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn forms_of_a_request_that_proxies_use_are_understood() {
    let expected = sample::http().get("/nix-cache-info");
    for request in [
        "GET http://cache.example.org/nix-cache-info HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n",
        "GET /nix-cache-info HTTP/1.0\r\n\r\n",
        "\r\nGET /nix-cache-info?x=/%00 HTTP/1.1\r\nHost: c\r\nconnection: close\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(sample::server().address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 OK\r\n") && answer.ends_with(expected.text()), "{request}: {answer}");
    }
}

/// At the level that logs every request. A URL with a raw line end is rejected earlier; an encoded one is logged.
#[test]
fn no_url_forges_a_line_of_the_log() {
    let daemon = ScriptedDaemon::start(StoreItem::file(b"").script());
    let config = crate::support::scratch::fresh_dir().join("config.toml");
    std::fs::write(&config, format!("bind = \"127.0.0.1:0\"\n{}", daemon.config())).unwrap();
    let mut program = Harmonia::program();
    program.arg("--config").arg(config).env("RUST_LOG", "debug");
    let harmonia = Harmonia::launch(program);
    let forged = "2026-01-01T00:00:00Z%20ERROR%20forged";
    for target in [format!("/%0a{forged}"), format!("/%0d%0a{forged}"), format!("/\u{85}\u{2028}{forged}\u{202e}")] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
        let _ = statuses(harmonia.address(), request.as_bytes());
    }
    assert_eq!(harmonia.http().get("/the-last-one").status, 404);
    harmonia.wait_for_log("the-last-one");
    let log = harmonia.log();
    let lines: Vec<_> = log.split(['\n', '\r', '\u{85}', '\u{2028}']).filter(|line| line.contains("forged")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(" DEBUG request ")), "{lines:?}");
    assert!(!log.contains(['\u{85}', '\u{2028}', '\u{202e}', '\u{1b}']), "{log:?}");
}
