//! Methods, headers and connections of every endpoint. Timeouts, which are minutes, are tested in `src/net`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use crate::sample::{self, http, nar_url, narinfo_url};
use crate::support::http::{Connection, Response};

const MISSING: &str = "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";

/// Returns a URL of each endpoint and of each kind of 404.
fn urls() -> Vec<String> {
    vec![
        "/nix-cache-info".to_owned(),
        narinfo_url("regular"),
        narinfo_url("many-references"),
        narinfo_url("regular") + "?json",
        nar_url("executable"),
        MISSING.to_owned(),
        "/".to_owned(),
        "/nowhere".to_owned(),
    ]
}

fn connection() -> Connection {
    Connection::open(sample::server().address()).unwrap()
}

#[test]
fn put_is_refused_everywhere_and_the_connection_stays_in_sync_or_closes() {
    for url in urls() {
        for expect in ["", "Expect: 100-continue\r\n"] {
            let mut connection = connection();
            let put = format!("PUT {url} HTTP/1.1\r\nHost: cache\r\nContent-Length: 4\r\n{expect}\r\n");
            connection.send(put.as_bytes()).unwrap();
            if expect.is_empty() {
                connection.send(b"body").unwrap();
            }
            let response = connection.receive(false).unwrap();
            assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{url}");
            // Who waited for leave to send a body may send it or not: only a close leaves no doubt.
            assert_eq!(response.header("connection"), (!expect.is_empty()).then_some("close"), "{url}");
            let next = connection
                .send(b"GET /nix-cache-info HTTP/1.1\r\nHost: cache\r\n\r\n")
                .and_then(|()| connection.receive(false));
            if let Ok(next) = next {
                assert!(next.text().starts_with("StoreDir: "), "{url} {expect}: {} {:?}", next.status, next.headers);
            }
        }
    }
}

#[test]
fn head_has_the_status_and_headers_of_get_and_no_body() {
    let comparable = |response: &Response| {
        let mut headers = response.headers.clone();
        headers.retain(|(name, _)| name != "date");
        (response.status, headers)
    };
    for url in urls() {
        let (get, head) = (http().get(&url), http().head(&url));
        assert_eq!(comparable(&get), comparable(&head), "{url}");
        assert_eq!(head.header("content-length"), Some(&*get.body.len().to_string()), "{url}");
        // Nothing follows the head: what comes next is the next answer.
        let mut connection = connection();
        let both = format!("HEAD {url} HTTP/1.1\r\nHost: c\r\n\r\nGET /nix-cache-info HTTP/1.1\r\nHost: c\r\n\r\n");
        connection.send(both.as_bytes()).unwrap();
        connection.receive(true).unwrap();
        assert!(connection.receive(false).unwrap().text().starts_with("StoreDir: "), "{url}");
    }
}

#[test]
fn other_methods_are_a_405_with_allow_and_get_and_head_never_are() {
    for url in urls() {
        for method in ["POST", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
            let response = http().request(format!("{method} {url} HTTP/1.1\r\nHost: c\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD, OPTIONS")),
                "{method} {url}"
            );
        }
        assert!(http().get(&url).status != 405 && http().head(&url).status != 405, "{url}");
    }
}

#[test]
fn pages_of_other_sites_may_read_everything_and_ask_whether_they_may() {
    let allowed = |response: &Response| response.header("access-control-allow-origin") == Some("*");
    for url in urls().into_iter().chain(["*".to_owned()]) {
        let preflight = format!(
            "OPTIONS {url} HTTP/1.1\r\nHost: c\r\nOrigin: https://example.org\r\nConnection: close\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: range\r\n\r\n"
        );
        let response = http().request(preflight.as_bytes()).unwrap();
        assert!(response.status == 204 && allowed(&response), "{url}: {}", response.status);
        for header in ["allow", "access-control-allow-methods"] {
            assert_eq!(response.header(header), Some("GET, HEAD, OPTIONS"), "{url}");
        }
        assert_eq!(response.header("access-control-allow-headers"), Some("*"));
        if url != "*" {
            assert!(allowed(&http().get(&url)) && allowed(&http().head(&url)), "{url}");
        }
    }
}

#[test]
fn no_response_is_encoded_by_default_or_has_the_encoding_identity() {
    for url in urls() {
        for accepted in [None, Some("identity"), Some("deflate, bzip2, xz, x-gzip"), Some("zstd, br, gzip, deflate")] {
            let headers: Vec<_> = accepted.map(|value| ("Accept-Encoding", value)).into_iter().collect();
            let response = http().get_with(&url, &headers);
            assert_eq!(response.header("content-encoding"), None, "{url}");
        }
    }
}

#[test]
fn many_concurrent_requests_are_never_answered_429() {
    let narinfos = ["regular", "symlink", "odd-name", "many-references"].map(narinfo_url);
    thread::scope(|scope| {
        for client in 0..40 {
            let narinfos = &narinfos;
            scope.spawn(move || {
                for turn in 0..5 {
                    assert_eq!(http().get(&narinfos[(client + turn) % narinfos.len()]).status, 200);
                }
            });
        }
    });
}

#[test]
fn head_and_body_of_a_narinfo_are_sent_in_one_write() {
    let mut stream = TcpStream::connect(sample::server().address()).unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", narinfo_url("regular"));
    let text = sample::narinfo("regular");
    // The first time and on the reused connection, where Nagle's algorithm would hold a second write back.
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = [0; 16 * 1024];
        let read = stream.read(&mut bytes).unwrap();
        let answer = std::str::from_utf8(&bytes[..read]).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&text), "{answer}");
    }
}

#[test]
fn a_client_may_have_at_least_25_connections() {
    let mut connections: Vec<_> = (0..30).map(|_| connection()).collect();
    let request = format!("GET {} HTTP/1.1\r\nHost: cache\r\n\r\n", narinfo_url("regular"));
    for _ in 0..2 {
        for connection in &mut connections {
            connection.send(request.as_bytes()).unwrap();
        }
        for connection in &mut connections {
            assert_eq!(connection.receive(false).unwrap().status, 200);
        }
    }
}

#[test]
fn requests_pipelined_after_errors_stay_in_sync() {
    let nar = nar_url("executable");
    let requests = [
        ("GET", MISSING.to_owned(), "", 404),
        ("GET", narinfo_url("regular"), "", 200),
        ("GET", nar.clone(), "Range: bytes=99999999-\r\n", 416),
        ("HEAD", nar.clone(), "", 200),
        ("POST", nar.clone(), "", 405),
        ("GET", nar.clone(), "Range: bytes=8-15\r\n", 206),
        ("GET", "/../nowhere".to_owned(), "", 404),
        ("GET", "/nix-cache-info".to_owned(), "", 200),
    ];
    let mut connection = connection();
    let request = |(method, url, headers, _): &(&str, String, &str, u16)| {
        format!("{method} {url} HTTP/1.1\r\nHost: cache\r\n{headers}\r\n")
    };
    let all: Vec<_> = requests.iter().map(request).collect();
    connection.send(all.concat().as_bytes()).unwrap();
    for (method, url, _, status) in &requests {
        let response = connection.receive(*method == "HEAD").unwrap();
        assert_eq!(response.status, *status, "{method} {url}");
        match (*status, &**url) {
            (206, _) => assert_eq!(response.body, b"nix-arch"),
            (200, "/nix-cache-info") => assert!(response.text().starts_with("StoreDir: ")),
            _ => {}
        }
    }
}

#[test]
fn two_slashes_are_one_and_no_body_has_an_absolute_url() {
    for url in urls() {
        let doubled = url.replace('/', "//");
        let (once, twice) = (http().get(&url), http().get(&doubled));
        assert_eq!(once.status, twice.status, "{doubled}");
        // The page at / tells people its URL, and counters that other tests change.
        if url != "/" {
            assert_eq!(once.body, twice.body, "{doubled}");
            assert!(!String::from_utf8_lossy(&once.body).contains("://"), "{url}");
        }
    }
}

#[test]
fn paths_that_escape_the_endpoints_are_4xx() {
    let regular = narinfo_url("regular");
    let regular = regular.trim_start_matches('/');
    let long = format!("/{}", "a".repeat(60_000));
    for url in [
        &*format!("/../{regular}"),
        &format!("/./{regular}"),
        &format!("/nar/../{regular}"),
        &format!("/%2e%2e/{regular}"),
        &format!("/x%2f{regular}"),
        &format!("/%2f{regular}"),
        &format!("/{regular}%00"),
        &format!("/{regular}%2f"),
        "/%ff%fe.narinfo",
        "/etc/passwd",
        "/../../etc/passwd",
        &long,
    ] {
        let status = http().get(url).status;
        assert!((400..500).contains(&status), "{url}: {status}");
    }
}

#[test]
fn cache_control_is_immutable_for_nars_an_hour_for_narinfos_and_no_store_for_errors() {
    for (url, expected) in [
        (nar_url("regular"), "public, max-age=31536000, immutable"),
        (narinfo_url("regular"), "public, max-age=3600"),
        ("/nix-cache-info".to_owned(), "public, max-age=3600"),
        (MISSING.to_owned(), "no-store"),
        ("/nowhere".to_owned(), "no-store"),
    ] {
        assert_eq!(http().get(&url).header("cache-control"), Some(expected), "{url}");
    }
}

#[test]
fn error_bodies_are_plain_text_short_and_without_paths() {
    let range = [("Range", "bytes=99999999-"), ("Accept-Encoding", "zstd")];
    let put = format!("PUT {} HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n", nar_url("regular"));
    for (status, response) in [
        (404, http().get_with(MISSING, &range)),
        (404, http().get_with("/nowhere", &range)),
        (416, http().get_with(&nar_url("regular"), &range)),
        (405, http().request(put.as_bytes()).unwrap()),
    ] {
        assert_eq!(response.status, status);
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(response.body.len() < 200 && !response.text().contains('/'), "{}", response.text());
    }
}
