//! What a client of a fleet gets for a path, checked without the code under test: a signed narinfo, and the NAR that it names.

use std::io::Read as _;
use std::net::SocketAddr;

use ring::digest::{SHA256, digest};

use super::shared_bucket::narinfo;
use crate::support::http::{Http, Response};
use crate::support::keys::{self, Key};
use crate::support::narinfo::{value, values};

/// What a path is like, by a narinfo that one of the fleet's keys signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// URL of the NAR, with a leading slash.
    pub(crate) url: String,
    pub(crate) compression: String,
    pub(crate) nar_hash: String,
    pub(crate) nar_size: u64,
}

/// Parses a narinfo of this path; panics unless this key signed it.
pub(crate) fn signed_by(key: &Key, path: &str, text: &str) -> Signed {
    assert_eq!(value(text, "StorePath"), path);
    let references = value(text, "References");
    let references: Vec<_> = references.split_whitespace().map(|name| format!("/nix/store/{name}")).collect();
    let (hash, size) = (value(text, "NarHash"), value(text, "NarSize"));
    let fingerprint = format!("1;{path};{hash};{size};{}", references.join(","));
    let is_ours = values(text, "Sig").iter().any(|signature| {
        signature.split(':').next() == Some(key.name) && key.verifies(signature, fingerprint.as_bytes())
    });
    assert!(is_ours, "{} has not signed:\n{text}", key.name);
    Signed {
        url: format!("/{}", value(text, "URL")),
        compression: value(text, "Compression").to_owned(),
        nar_hash: hash.to_owned(),
        nar_size: size.parse().unwrap(),
    }
}

/// Requests the narinfo of a path; panics unless there is one that [`keys::OURS`] signed.
pub(crate) fn signed(http: Http, path: &str) -> Signed {
    let response = narinfo(http, path);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    signed_by(&keys::OURS, path, response.text())
}

/// Requests a URL, and follows a redirect to another server.
pub(crate) fn follow(http: Http, url: &str) -> std::io::Result<Response> {
    let ask = |http: Http, host: &str, url: &str| {
        http.request(format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    let response = ask(http, "cache", url)?;
    if response.status != 307 {
        return Ok(response);
    }
    let location = response.header("location").expect("a redirect to nowhere");
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    ask(Http::new(host.parse::<SocketAddr>().unwrap()), host, &format!("/{path}"))
}

/// Returns whether a complete body is the NAR that a narinfo describes.
pub(crate) fn is_right(signed: &Signed, body: &[u8]) -> bool {
    let nar = match &*signed.compression {
        "none" => body.to_vec(),
        "zstd" => {
            let mut nar = Vec::new();
            match zstd::Decoder::new(body).unwrap().read_to_end(&mut nar) {
                Ok(_) => nar,
                Err(_) => return false,
            }
        }
        other => panic!("compressed by {other}"),
    };
    let hash = format!("sha256:{}", harmonia_protocol::nix32::encode(digest(&SHA256, &nar).as_ref()));
    nar.len() as u64 == signed.nar_size && hash == signed.nar_hash
}

/// Gets a path as a client does; panics unless narinfo and NAR are there and right.
pub(crate) fn gets(http: Http, path: &str) {
    let signed = signed(http, path);
    let response = follow(http, &signed.url).unwrap_or_else(|error| panic!("{}: {error}", signed.url));
    assert_eq!(response.status, 200, "{}: {}", signed.url, String::from_utf8_lossy(&response.body));
    assert!(response.complete && is_right(&signed, &response.body), "a wrong body of {}", signed.url);
}
