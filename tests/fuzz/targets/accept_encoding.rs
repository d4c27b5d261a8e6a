//! `Accept-Encoding`: one list however it is spread over lines, spelled and spaced; and nothing is encoded for a client
//! that does not ask for it.

use harmonia::http::request::accept_encoding::{ContentCoding, negotiate};
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

/// Maximum number of items that the server reads.
const MAX_ITEMS: usize = 64;

pub(super) fn property(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let coding = of(&lines);
    let texts: Vec<_> = lines.iter().filter_map(|line| text(line)).collect();

    let joined = texts.join(",");
    let apart: Vec<_> = joined.split(',').map(str::as_bytes).collect();
    assert_eq!(of(&[joined.as_bytes()]), coding, "in one line");
    assert_eq!(of(&apart), coding, "in a line each");
    assert_eq!(of(&[joined.to_ascii_uppercase().as_bytes()]), coding, "in capitals");
    assert_eq!(of(&[joined.replace(',', "\t ,  ").as_bytes()]), coding, "with space between items");
    assert_eq!(of(&[joined.replace(';', " ;\t").as_bytes()]), coding, "with space before weights");

    let names: Vec<_> = joined.split(',').map(|item| item.split(';').next().unwrap_or_default().trim()).collect();
    let asks = names.iter().any(|name| name.eq_ignore_ascii_case("zstd") || *name == "*");
    assert!(asks || coding == ContentCoding::Identity, "zstd for {joined:?}");
    if apart.len() < MAX_ITEMS {
        // What has been said of a coding stands.
        for more in ["gzip", "br;q=0.5", "zstd;q=2"] {
            assert_eq!(of(&[joined.as_bytes(), more.as_bytes()]), coding, "and {more}");
        }
        let no: &[u8] = b"zstd;q=0";
        assert_eq!(of(&[joined.as_bytes(), no, b"zstd"]), of(&[joined.as_bytes(), no]), "what is said first stands");
        if !names.iter().any(|name| name.eq_ignore_ascii_case("zstd") || name.eq_ignore_ascii_case("identity")) {
            assert_eq!(of(&[joined.as_bytes(), b"zstd"]), ContentCoding::Zstd, "{joined:?}, zstd");
            assert_eq!(of(&[joined.as_bytes(), no]), ContentCoding::Identity, "{joined:?}, zstd;q=0");
        }
    }
}

/// A line that a server looks at.
fn text(line: &[u8]) -> Option<String> {
    HeaderValue::from_bytes(line).ok()?.to_str().ok().map(str::to_owned)
}

fn of(lines: &[&[u8]]) -> ContentCoding {
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(ACCEPT_ENCODING, value);
        }
    }
    negotiate(&headers)
}
