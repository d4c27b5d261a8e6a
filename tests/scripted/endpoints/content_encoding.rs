//! zstd as a content coding: which requests get it, and that nothing else differs.

use std::io::Read as _;
use std::sync::OnceLock;

use crate::sample::{self, nar_url, narinfo_url};
use crate::support::http::{Http, Response};
use crate::support::scripted_daemon::{Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};

const ZSTD: (&str, &str) = ("Accept-Encoding", "zstd, br, gzip, deflate, bzip2, xz");

/// Base-2 logarithm of the largest window that RFC 9659 allows, 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;

fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| Harmonia::start(&format!("{}{}", sample::config(), nar_cache_on_demand())))
}

fn http() -> Http {
    server().http()
}

fn is_coded(response: &Response) -> bool {
    match response.header("content-encoding") {
        None => false,
        Some(coding) => {
            assert_eq!(coding, "zstd");
            true
        }
    }
}

/// Decodes with the largest window that RFC 9659 allows.
fn decoded(body: &[u8]) -> Vec<u8> {
    let mut decoder = zstd::Decoder::new(body).unwrap();
    decoder.window_log_max(MAX_WINDOW_LOG).unwrap();
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn an_encoded_nar_decodes_to_the_nar_and_is_the_same_each_time() {
    for name in ["regular", "symlink", "empty-directory", "empty-file", "odd-entries", "deep-tree"] {
        let url = nar_url(name);
        let (plain, coded, again) = (http().get(&url), http().get_with(&url, &[ZSTD]), http().get_with(&url, &[ZSTD]));
        assert!(is_coded(&coded) && !is_coded(&plain), "{name}");
        assert!(decoded(&coded.body) == plain.body, "{name}");
        assert!(coded.body == again.body, "{name}: the strong tag lies");
        assert_eq!(coded.header("etag"), again.header("etag"), "{name}");
        assert_ne!(coded.header("etag"), plain.header("etag"), "{name}");
        assert!(coded.header("etag").unwrap().starts_with('"'), "{name}");
        for response in [plain, coded] {
            assert_eq!(response.header("vary"), Some("accept-encoding"), "{name}");
            assert_eq!(response.header("accept-ranges"), Some("bytes"), "{name}");
            assert_eq!(response.header("content-type"), Some("application/x-nix-nar"), "{name}");
        }
    }
}

/// RFC 9659: clients need not support larger windows.
#[test]
fn a_nar_of_more_than_8_mib_is_never_encoded() {
    let response = http().get_with(&nar_url("large"), &[ZSTD]);
    assert!(response.body.len() > 1 << MAX_WINDOW_LOG && !is_coded(&response));
    assert_eq!(response.header("vary"), Some("accept-encoding"));
}

#[test]
fn only_clients_that_accept_zstd_get_it() {
    let url = nar_url("regular");
    assert!(!is_coded(&http().get(&url)), "without Accept-Encoding");
    for (accepted, coded) in [
        ("zstd", true),
        ("ZSTD", true),
        ("gzip;q=1.0, zstd;q=0.1", true),
        ("*", true),
        ("deflate, gzip, br, zstd", true),
        ("identity;q=0.5, zstd", true),
        ("zstd;q=0", false),
        ("zstd;q=0.000, *", false),
        ("*;q=0", false),
        ("gzip, deflate, br", false),
        ("identity", false),
        ("zstd;q=0.5, identity", false),
        ("zstd;q=5", false),
        ("", false),
    ] {
        let response = http().get_with(&url, &[("Accept-Encoding", accepted)]);
        assert_eq!(is_coded(&response), coded, "{accepted:?}");
    }
}

#[test]
fn a_range_is_never_encoded() {
    let url = nar_url("deep-tree");
    let whole = http().get(&url);
    let coded_tag = http().get_with(&url, &[ZSTD]).header("etag").unwrap().to_owned();
    for (range, condition, status, from) in [
        ("bytes=100-", None, 206, 100),
        ("bytes=0-", None, 206, 0),
        ("bytes=5-2", None, 200, 0),
        ("bytes=100-", Some(&*coded_tag), 200, 0),
        ("bytes=100-", whole.header("etag"), 206, 100),
    ] {
        let mut headers = vec![ZSTD, ("Range", range)];
        headers.extend(condition.map(|tag| ("If-Range", tag)));
        let response = http().get_with(&url, &headers);
        assert_eq!((response.status, is_coded(&response)), (status, false), "{range} {condition:?}");
        assert!(response.body == whole.body[from..], "{range} {condition:?}");
        assert_eq!(response.header("etag"), whole.header("etag"), "{range}");
        assert_eq!(response.header("vary"), Some("accept-encoding"), "{range}");
    }
}

#[test]
fn head_has_the_headers_of_get_with_and_without_encoding() {
    for url in [nar_url("odd-entries"), narinfo_url("many-references"), narinfo_url("regular")] {
        for accepted in ["zstd", "gzip"] {
            let get = http().get_with(&url, &[("Accept-Encoding", accepted)]);
            let request = format!(
                "HEAD {url} HTTP/1.1\r\nHost: cache\r\nAccept-Encoding: {accepted}\r\nConnection: close\r\n\r\n"
            );
            let head = http().request(request.as_bytes()).unwrap();
            // How a body of unknown length is framed does not concern an answer that has none (RFC 9112, section 6.1).
            let comparable = |response: Response| {
                let mut headers = response.headers;
                headers.retain(|(name, _)| name != "date" && name != "transfer-encoding");
                (response.status, headers)
            };
            assert_eq!(comparable(get), comparable(head), "{url} {accepted}");
        }
    }
}

#[test]
fn a_matching_tag_of_either_form_is_a_304() {
    for url in [nar_url("regular"), narinfo_url("many-references")] {
        for accepted in ["zstd", "gzip"] {
            let headers = [("Accept-Encoding", accepted)];
            let tag = http().get_with(&url, &headers).header("etag").unwrap().to_owned();
            let held = http().get_with(&url, &[headers[0], ("If-None-Match", &tag)]);
            assert_eq!((held.status, held.header("etag"), held.body.len()), (304, Some(&*tag), 0), "{url}");
            assert!(held.header("vary").unwrap().starts_with("accept-encoding") && !is_coded(&held), "{url}");
        }
    }
}

#[test]
fn a_long_narinfo_is_encoded_and_a_short_one_is_not() {
    let long = http().get_with(&narinfo_url("many-references"), &[ZSTD]);
    assert!(is_coded(&long));
    let plain = http().get(&narinfo_url("many-references"));
    assert!(decoded(&long.body) == plain.body && plain.text().len() > 10_000);
    assert_eq!(long.header("content-length"), Some(&*long.body.len().to_string()));
    for url in [narinfo_url("regular"), "/nix-cache-info".to_owned(), "/nowhere".to_owned()] {
        assert!(!is_coded(&http().get_with(&url, &[ZSTD])), "{url}");
    }
}

#[test]
fn a_502_to_clients_that_accept_an_encoding_has_no_body() {
    let daemon = ScriptedDaemon::start(Script::greeting(Reply::then_disconnect([])));
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
    for url in [nar_url("regular"), narinfo_url("many-references")] {
        let response = harmonia.http().get_with(&url, &[ZSTD]);
        assert_eq!((response.status, response.body.len(), is_coded(&response)), (502, 0, false), "{url}");
    }
}

/// nginx uses HTTP/1.0 for upstreams by default and cannot detect that a body without a length is truncated.
#[test]
fn http_1_0_gets_a_nar_with_its_length_and_no_coding() {
    let url = nar_url("regular");
    let request = format!("GET {url} HTTP/1.0\r\nAccept-Encoding: zstd\r\n\r\n");
    let raw = http().exchange(request.as_bytes());
    let (head, body) = raw.split_at(raw.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4);
    let head = String::from_utf8_lossy(head).to_lowercase();
    assert!(head.contains(" 200 ") && !head.contains("content-encoding"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    assert_eq!(body, http().get(&url).body);
}
