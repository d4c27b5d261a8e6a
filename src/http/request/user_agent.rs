//! Bugs and missing features of clients that only their `User-Agent` tells.

use hyper::header::{HeaderMap, USER_AGENT};

use crate::http::request::accept_encoding::{ContentCoding, negotiate};

/// First release of Nix that can decode NARs compressed with zstd.
const ZSTD_SINCE: (u32, u32) = (2, 4);

/// First release of Nix that selects a decoder for each response, retries included.
const FRESH_DECODER_SINCE: (u32, u32) = (2, 34);

/// Returns whether a 502 or 503 to this client may have a body.
///
/// Nix up to 2.33 selects its decoder by the first body of a request, and uses it for the responses to its retries too. That
/// is harmless if no response is encoded, or if the client is a browser or a later release.
pub(crate) fn accepts_error_bodies(headers: &HeaderMap) -> bool {
    let agent = agent(headers);
    negotiate(headers) == ContentCoding::Identity
        || agent.starts_with("Mozilla/")
        || nix_release(agent).is_some_and(|release| release >= FRESH_DECODER_SINCE)
}

/// Returns whether the client accepts NARs compressed with zstd: all but Nix before 2.4, as in `curl/7.72.0 Nix/2.3.7`.
pub(crate) fn accepts_zstd_nars(headers: &HeaderMap) -> bool {
    nix_release(agent(headers)).is_none_or(|release| release >= ZSTD_SINCE)
}

fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn nix_release(agent: &str) -> Option<(u32, u32)> {
    agent.split(' ').find_map(|product| product.strip_prefix("Nix/")).and_then(release)
}

/// Parses the first two numbers of a release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_body_only_if_it_breaks_no_later_response() {
        for (agent, encoding, takes) in [
            ("curl/7.72.0 Nix/2.3.7", None, true),
            ("curl/8.4.0 Nix/2.18.1", Some("deflate, gzip, br, zstd"), false),
            ("curl/8.4.0 Nix/2.33.1", Some("zstd"), false),
            ("curl/8.4.0 Nix/2.18.1", Some("deflate, gzip"), true),
            ("curl/8.17.0 Nix/2.34.8", Some("deflate, gzip, br, zstd"), true),
            ("curl/8.17.0 Lix/2.94", Some("zstd"), false),
            ("Nix/unstable", Some("zstd"), false),
            ("", Some("zstd"), false),
            ("curl/8.17.0", None, true),
            ("Mozilla/5.0 (X11; Linux x86_64)", Some("gzip, deflate, br, zstd"), true),
        ] {
            let encoding = encoding.map(|it| (hyper::header::ACCEPT_ENCODING, it.parse().unwrap()));
            let agent_header = [(USER_AGENT, agent.parse().unwrap())];
            let headers: HeaderMap = agent_header.into_iter().chain(encoding.clone()).collect();
            assert_eq!(accepts_error_bodies(&headers), takes, "{agent} {encoding:?}");
        }
    }

    #[test]
    fn only_nix_before_2_4_gets_no_zstd() {
        for (agent, takes) in [
            ("curl/7.72.0 Nix/2.3.7", false),
            ("curl/7.72.0 Nix/2.3pre6895_84de821", false),
            ("Nix/1.11.16", false),
            ("Nix/2.3.7 builder", false),
            ("curl/7.85.0 Nix/2.4", true),
            ("curl/8.12.0 Nix/2.26.3", true),
            ("curl/8.12.0 Nix/3.0", true),
            ("curl/8.12.0 Lix/2.3", true),
            ("Nix/unstable", true),
            ("Mozilla/5.0", true),
            ("", true),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(accepts_zstd_nars(&headers), takes, "{agent}");
        }
        assert!(accepts_zstd_nars(&HeaderMap::new()));
    }
}
