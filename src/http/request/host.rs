//! Validates `Host`, since hyper does not.
//!
//! Invalid are an HTTP/1.1 request without `Host`, one with two of them or with an invalid value (RFC 9112, section 3.2), and
//! an HTTP/2 request whose `Host` differs from its `:authority` (RFC 9113, section 8.3.1). A proxy in front might pick
//! another one of two hosts than this server.

use hyper::Version;
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

/// Returns whether this request names its host as its version of HTTP requires.
pub(crate) fn is_named(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    let authority = request.uri.authority().filter(|_| request.version >= Version::HTTP_2).map(Authority::as_str);
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => false,
        (Some(host), None) => {
            let is_it = |authority: &str| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
            is_host(host) && authority.is_none_or(is_it)
        }
        // HTTP/1.0 needs none, and HTTP/2 has the authority.
        (None, None) => request.version != Version::HTTP_11,
    }
}

/// Returns whether this consists of the characters of `uri-host [":" port]` in RFC 3986. It may be empty.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|byte| byte == b':' || is_name(byte)),
        None => host.bytes().all(is_name),
    };
    is_host && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn named(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let request = hosts.iter().fold(Request::builder(), |request, host| request.header(HOST, *host));
        is_named(&request.version(version).uri(uri).body(()).unwrap().into_parts().0)
    }

    #[test]
    fn http_1_1_needs_one_host_and_other_versions_have_at_most_one() {
        for host in
            ["", "cache", "cache.example.org.", "my_host:5000", "192.0.2.7:", "[2001:db8::1]:80", "[fe80::1%25x]"]
        {
            assert!(named(Version::HTTP_11, "/", &[host]), "{host:?}");
        }
        for host in ["a b", "a, b", "a/b", "user@a", "a:b", "[::1", "::1", "a\"b", "<a>", "a:1:2", "[]", "{a}"] {
            assert!(!named(Version::HTTP_11, "/", &[host]), "{host:?}");
        }
        assert!(!named(Version::HTTP_11, "/", &[]) && !named(Version::HTTP_11, "http://cache/", &[]));
        assert!(named(Version::HTTP_11, "http://cache/", &["other"]), "the target wins");
        assert!(named(Version::HTTP_10, "/", &[]));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!named(version, "/", &["cache", "cache"]), "{version:?}");
        }
    }

    #[test]
    fn host_and_authority_of_http_2_are_the_same() {
        for (hosts, is_right) in [(&[][..], true), (&["Cache:80"], true), (&["cache"], false), (&["other"], false)] {
            assert_eq!(named(Version::HTTP_2, "http://cache:80/", hosts), is_right, "{hosts:?}");
        }
        assert!(named(Version::HTTP_2, "/", &[]) && named(Version::HTTP_2, "/", &["cache"]));
    }
}
