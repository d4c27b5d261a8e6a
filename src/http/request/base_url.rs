//! The URL by which a client reached this cache, to be shown to people.
//!
//! Any client can set `Host`, `X-Forwarded-Host`, `X-Forwarded-Proto` and `X-Forwarded-Prefix`. They are accepted only as a
//! host name or address with a port, one of two schemes, and a path of plain names; anything else is ignored.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::Authority;

/// Upper bound of a host name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
/// Upper bound of a label of such a name, in bytes.
const MAX_LABEL: usize = 63;

/// Upper bound of the path below which a proxy serves the cache, in bytes.
const MAX_PREFIX: usize = 256;

/// Returns `scheme://host[:port][/path]` without a slash at its end, if the request names a valid host.
pub(crate) fn base_url(headers: &HeaderMap, uri: &Uri, is_https: bool) -> Option<String> {
    let forwarded = first(headers, "x-forwarded-host").filter(|text| is_host_and_port(text));
    // HTTP/2 has the authority in the target.
    let own = uri.authority().map(Authority::as_str).or_else(|| headers.get(HOST)?.to_str().ok());
    let host = forwarded.or_else(|| own.filter(|text| is_host_and_port(text)))?;
    let scheme = match first(headers, "x-forwarded-proto") {
        Some("https") => "https",
        Some("http") => "http",
        _ if is_https => "https",
        _ => "http",
    };
    let prefix = first(headers, "x-forwarded-prefix").and_then(prefix).unwrap_or_default();
    Some(format!("{scheme}://{host}{prefix}"))
}

/// Returns the path without a slash at its end, if it consists of plain names.
fn prefix(path: &str) -> Option<&str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(plain);
    let names = path.strip_prefix('/')?;
    (path.len() <= MAX_PREFIX && names.split('/').all(is_name)).then_some(path)
}

/// Returns the value that the first of several proxies set, the one that the client reached.
fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

/// Returns whether this is a host name, an IPv4 address or an IPv6 address in brackets, with or without a port.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
    is_port && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_allowed)
    };
    host.parse::<Ipv4Addr>().is_ok() || (host.len() <= MAX_NAME && host.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn base_url_from(headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).ok()?);
        }
        base_url(&map, &"/".parse().unwrap(), false)
    }

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for host in ["cache", "cache.example.org:5000", "192.0.2.7:80", "[2001:db8::7]:5000", "[::1]", "my_host-1"] {
            assert_eq!(base_url_from(&[("host", host)]), Some(format!("http://{host}")));
        }
        for host in [
            "",
            "<b>",
            "cache\"",
            "user@cache",
            "cache/path",
            "cache:",
            "cache:0",
            "cache:70000",
            "cache:+1",
            "a..b",
            "[::1",
            "::1",
            "[x]",
            "c c",
            "c;c",
            "${c}",
            "c'c",
            "c:1:2",
        ] {
            assert_eq!(base_url_from(&[("host", host)]), None, "{host}");
        }
        assert_eq!(base_url_from(&[("host", &"a".repeat(64))]), None);
        assert_eq!(base_url_from(&[]), None);
    }

    #[test]
    fn headers_of_proxies_are_used_if_they_are_valid() {
        let own = ("host", "127.0.0.1:5000");
        let forwarded =
            |host, proto| base_url_from(&[own, ("x-forwarded-host", host), ("x-forwarded-proto", proto)]).unwrap();
        assert_eq!(forwarded("cache.example.org", "https"), "https://cache.example.org");
        assert_eq!(forwarded("a.example, b.example", "https, http"), "https://a.example");
        assert_eq!(forwarded("<script>", "javascript"), "http://127.0.0.1:5000");
        assert_eq!(forwarded("", ""), "http://127.0.0.1:5000");
    }

    #[test]
    fn a_cache_may_be_below_a_path_of_plain_names() {
        let below = |prefix| base_url_from(&[("host", "cache"), ("x-forwarded-prefix", prefix)]).unwrap();
        for (prefix, path) in
            [("/nix", "/nix"), ("/nix/", "/nix"), ("/a/b-c._~1, /d", "/a/b-c._~1"), ("/", ""), ("", "")]
        {
            assert_eq!(below(prefix), format!("http://cache{path}"), "{prefix:?}");
        }
        let long = format!("/{}", "a".repeat(256));
        for prefix in [
            "nix",
            "//evil.example",
            "/a//b",
            "/a/../b",
            "/..",
            "/a b",
            "/a\"b",
            "/<b>",
            "/a?b",
            "/a#b",
            "/%2f",
            "/a;b",
            &long,
        ] {
            assert_eq!(below(prefix), "http://cache", "{prefix:?}");
        }
    }

    #[test]
    fn the_scheme_is_ours_and_the_authority_of_http2_comes_first() {
        let uri = "https://cache.example.org/".parse().unwrap();
        let base_url = base_url(&HeaderMap::new(), &uri, true);
        assert_eq!(base_url.as_deref(), Some("https://cache.example.org"));
    }

    proptest! {
        #[test]
        fn no_header_puts_markup_into_the_url(host in "[ -~]{0,30}", forwarded in "[ -~]{0,30}", proto in "[ -~]{0,9}", prefix in "[ -~]{0,9}") {
            let headers = [("x-forwarded-host", &*forwarded), ("x-forwarded-proto", &proto), ("x-forwarded-prefix", &prefix)];
            let found = base_url_from(&[&[("host", &*host)], &headers[..]].concat());
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]~".contains(c);
            prop_assert!(found.is_none_or(|url| url.chars().all(plain)));
        }
    }
}
