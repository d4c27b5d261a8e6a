//! Attacks by HTTP/1.1: request smuggling, path traversal and floods, after which no resource leaks. Invalid requests are in
//! `bad_requests`, attacks by HTTP/2 in `hostile_http2`.

use std::net::SocketAddr;

use crate::sample;
use crate::support::footprint::leaves_nothing;
use crate::support::http::Connection;
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

/// Starts a server with a daemon that has no path.
fn server() -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&daemon.config());
    (daemon, harmonia)
}

/// Sends these bytes, closes the sending half, and returns the statuses of all responses.
fn answers(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut connection = Connection::open(address).unwrap();
    // The server may close before it has read all of it.
    let _ = connection.send(bytes);
    connection.shut_down();
    statuses(connection)
}

fn statuses(mut connection: Connection) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Ok(response) = connection.receive(false) {
        statuses.push(response.status);
    }
    statuses
}

fn is_fine(harmonia: &Harmonia, after: &str) {
    assert_eq!(harmonia.http().get("/nix-cache-info").status, 200, "after {after}");
}

/// Returns headers and bodies that may hide a second request behind the first. A server and a proxy that interpret one of
/// them differently see different requests, so there must be at most one response, and no query to nix-daemon.
fn ambiguous() -> Vec<(&'static str, String)> {
    let cases: [(&str, &str); 33] = [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
        ("two lengths in one line", "Content-Length: 0, 5\r\n\r\n"),
        ("a length with a sign", "Content-Length: +0\r\n\r\n"),
        ("a length in hexadecimal", "Content-Length: 0x0\r\n\r\n"),
        ("a length with a word", "Content-Length: 0 x\r\n\r\n"),
        ("an empty length", "Content-Length:\r\n\r\n"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551616\r\n\r\n"),
        ("length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n\r\n"),
        ("chunks that are not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("a coding besides chunks", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("a quoted coding", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        ("a coding and a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
        ("a coding behind a vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ("space before a colon", "Content-Length : 5\r\n\r\n"),
        ("space before chunks' colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("a tab before a colon", "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
        ("a folded line", "X: y\r\n Content-Length: 5\r\n\r\n"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        ("a first line that begins with space", " X: y\r\n\r\n"),
        ("a carriage return alone", "X: y\rContent-Length: 5\r\n\r\n"),
        ("a carriage return in a name", "X\r: y\r\n\r\n"),
        ("a NUL in a name", "Content-Length\0: 5\r\n\r\n"),
        ("a NUL in a value", "X: y\0\r\n\r\n"),
        ("a line without a colon", "Content-Length\r\n\r\n"),
        ("an empty name", ": 5\r\n\r\n"),
        ("a chunk's line that ends in a line feed alone", "Transfer-Encoding: chunked\r\n\r\n0\n\r\n"),
        ("a chunk's extension with a line feed", "Transfer-Encoding: chunked\r\n\r\n0;x\ny\r\n\r\n"),
        ("a size of a chunk that overflows", "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n"),
        ("a size with a sign", "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"),
        ("a size in C's notation", "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"),
        ("a chunk that goes on after its size", "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"),
    ];
    cases.into_iter().map(|(case, head)| (case, head.to_owned())).collect()
}

#[test]
fn no_request_is_found_behind_one_whose_end_is_in_doubt() {
    let (daemon, harmonia) = server();
    let hidden = format!("GET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\n\r\n");
    for (case, head) in ambiguous() {
        for line in ["GET /nix-cache-info", "POST /nix-cache-info"] {
            let request = format!("{line} HTTP/1.1\r\nHost: c\r\n{head}{hidden}");
            let answers = answers(harmonia.address(), request.as_bytes());
            assert!(answers.len() <= 1, "{line}, {case}: {answers:?}");
            is_fine(&harmonia, case);
        }
    }
    assert_eq!(daemon.seen().queries, []);
}

/// RFC 9112, section 2.2 lets a server accept a bare LF, and nginx and Varnish do: a different interpretation would allow
/// smuggling.
#[test]
fn a_line_feed_alone_ends_a_line_whatever_the_line_says() {
    let (_daemon, harmonia) = server();
    let hidden = format!("GET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
    // By a client that stays: one that says no more may be gone, and then is not answered what takes a while.
    let ask = |bytes: &[u8]| {
        let mut connection = Connection::open(harmonia.address()).unwrap();
        let _ = connection.send(bytes);
        statuses(connection)
    };
    for head in ["\n\r\n", "\r\n\n", "\nContent-Length: 5\r\n\r\n", "\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        for line in ["GET /nix-cache-info", "POST /nix-cache-info"] {
            let request = format!("{line} HTTP/1.1\r\nHost: c{head}");
            let with_both = request.replace("\r\n", "\n").replace('\n', "\r\n");
            // A connection that is closed with something unread may take answers with it that were under way.
            let [alone, both] = [request, with_both].map(|request| {
                let whole = format!("{request}{hidden}");
                (0..5).map(|_| ask(whole.as_bytes())).max_by_key(Vec::len)
            });
            assert_eq!(alone, both, "{line} {head:?}");
        }
    }
}

#[test]
fn no_request_is_found_in_the_body_of_another() {
    let (daemon, harmonia) = server();
    let hidden = format!("GET /{HASH}.narinfo HTTP/1.1\r\nHost: c\r\n\r\n");
    let length = format!("Content-Length: {}\r\n", hidden.len());
    let coded = "Transfer-Encoding: chunked\r\n";
    let chunk = format!("{:x};{}\r\n{hidden}\r\n0\r\nContent-Length: 9\r\n\r\n", hidden.len(), "e".repeat(100));
    let good = "GET /nowhere HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n";
    for method in ["GET", "POST", "OPTIONS", "DELETE", "TRACE"] {
        for expect in ["", "Expect: 100-continue\r\n", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"] {
            for (framing, body) in [(&*length, &hidden), (coded, &chunk)] {
                let request = format!("{method} /health HTTP/1.1\r\nHost: c\r\n{framing}{expect}\r\n{body}{good}");
                let answers = answers(harmonia.address(), request.as_bytes());
                let first = match method {
                    "GET" => 200,
                    "OPTIONS" => 204,
                    _ => 405,
                };
                // What follows the body is answered, unless the connection has been closed.
                let is_in_step = [&[first][..], &[first, 404]].contains(&&*answers);
                assert!(is_in_step, "{method} {framing:?} {expect:?}: {answers:?}");
            }
        }
    }
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn a_line_of_a_request_that_is_no_line_is_refused() {
    let (daemon, harmonia) = server();
    let narinfo = format!("/{HASH}.narinfo");
    let rest = "\r\nHost: c\r\nConnection: close\r\n\r\n";
    for line in [
        format!("GET\t{narinfo} HTTP/1.1"),
        format!("GET {narinfo}\x0bHTTP/1.1"),
        format!("GET {narinfo} HTTP/1.1 "),
        format!("GET {narinfo} http/1.1"),
        format!("GET {narinfo} HTTP/1.10"),
        format!("GET {narinfo} HTTP/01.1"),
        format!("GET {narinfo} HTTP/2.0"),
        format!("GET {narinfo} HTTP/1.1, HTTP/1.0"),
        format!("GET {narinfo}"),
        format!("{narinfo} HTTP/1.1"),
        format!("G\0ET {narinfo} HTTP/1.1"),
        format!("GET {narinfo}\r HTTP/1.1"),
        format!("GET {narinfo}#{} HTTP/1.1\0", "x".repeat(9)),
        format!("get {narinfo} HTTP/1.1"),
        format!("GET\u{a0}{narinfo} HTTP/1.1"),
        format!("{} {narinfo} HTTP/1.1", "G".repeat(70_000)),
        format!("GET {} HTTP/1.1", narinfo.trim_start_matches('/')),
        format!("GET http://{narinfo} HTTP/1.1"),
        format!("GET http:{narinfo} HTTP/1.1"),
        format!("GET file://{narinfo} HTTP/1.1"),
        format!("GET http://a@b:c@d/..{narinfo} HTTP/1.1"),
        format!("GET //evil.example.org{narinfo} HTTP/1.1"),
        format!("GET ?{narinfo} HTTP/1.1"),
        format!("GET *{narinfo} HTTP/1.1"),
        format!("PRI {narinfo} HTTP/2.0"),
    ] {
        let statuses = answers(harmonia.address(), format!("{line}{rest}").as_bytes());
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{line:.80}: {statuses:?}");
        is_fine(&harmonia, &line);
    }
    assert_eq!(daemon.seen().queries, []);
}

/// Spellings of `..`, for servers that decode once, twice or by other rules.
const UPWARDS: [&str; 22] = [
    "..",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "..%2f..",
    "..%5c..",
    "..\\..",
    "%252e%252e",
    "%252e%252e%252f",
    "..;",
    "..;x=y",
    "...",
    "....",
    ". .",
    "..%20",
    "..%00",
    "%2e%2e%00",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%u002e%u002e",
    "%uff0e%uff0e",
    "..%c0%af",
];

#[test]
fn no_way_upwards_leads_out_of_the_store() {
    let narinfo = sample::narinfo_url("odd-entries");
    let hash = &narinfo[1..][..32];
    let address = sample::server().address();
    let endpoints = ["", "/nar", "/nar/zstd1", "/log", "/debuginfo", "/realisations", "/build-trace-v2", "/serve"];
    let of_a_path = ["/serve/HASH", "/serve/HASH/a", "/log/HASH", "/log/HASH-x"].map(|it| it.replace("HASH", hash));
    for prefix in endpoints.into_iter().chain(of_a_path.iter().map(String::as_str)) {
        for up in UPWARDS {
            for depth in [1, 9] {
                for end in ["/etc/passwd", "/nix/etc/secret", "%2fetc%2fpasswd", "\\etc\\passwd", "/.", ""] {
                    let target = format!("{prefix}{}{end}", format!("/{up}").repeat(depth));
                    let request = format!("GET {target} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
                    let mut connection = Connection::open(address).unwrap();
                    connection.send(request.as_bytes()).unwrap();
                    let Ok(response) = connection.receive(false) else { continue };
                    assert!((400..500).contains(&response.status), "{target}: {}", response.status);
                    let body = String::from_utf8_lossy(&response.body);
                    assert!(body.len() < 200 && !body.contains("root:") && !body.contains("/nix"), "{target}: {body}");
                }
            }
        }
    }
}

#[test]
fn heads_without_end_cost_no_memory_for_longer_than_they_last() {
    let (_daemon, harmonia) = server();
    let flood = || {
        let mut connections: Vec<_> = (0..200).map(|_| Connection::open(harmonia.address()).unwrap()).collect();
        for (number, connection) in connections.iter_mut().enumerate() {
            let line = if number % 2 == 0 { "X: " } else { "X-Many: 1\r\n" };
            let _ = connection.send(format!("GET / HTTP/1.1\r\n{}", line.repeat(60_000 / line.len())).as_bytes());
        }
        // The server has all of it when it refuses what comes next.
        for connection in &mut connections {
            let _ = connection.send(&vec![b'x'; 10_000]);
            while let Ok(response) = connection.receive(false) {
                assert!((400..500).contains(&response.status), "{}", response.status);
            }
        }
    };
    leaves_nothing(harmonia.pid(), flood);
    is_fine(&harmonia, "all that");
}
