//! URLs of key sets: `https`, or `http` on this machine.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

/// URL of a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JwksUrl {
    uri: Uri,
    /// Host without brackets.
    host: String,
    is_tls: bool,
}

/// Reason for which a URL is not that of a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// It is no absolute URL.
    #[error("it is not an absolute URL")]
    Malformed,
    /// It has a user or password.
    #[error("it has a user or password")]
    Credentials,
    /// Whoever is between could replace the keys.
    #[error("it is neither https, nor http to this machine, so anybody in between could replace the keys")]
    Insecure,
}

impl JwksUrl {
    /// Parses a URL.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || authority.as_str().ends_with(':') {
            return Err(UrlError::Malformed);
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => return Err(UrlError::Insecure),
            _ => return Err(UrlError::Malformed),
        };
        Ok(Self { uri, host, is_tls })
    }

    /// Returns whether the connection is encrypted.
    pub(super) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns the host without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub(super) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Returns the value of the request's `Host`.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Returns the target of the request.
    pub(super) fn target(&self) -> String {
        // Its text has the slash that a URL without a path lacks.
        self.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_for_all_hosts_and_http_for_this_machine() {
        for (text, host, port, target) in [
            ("https://gitlab.com/oauth/discovery/keys", "gitlab.com", 443, "/oauth/discovery/keys"),
            ("https://id.example.org:8443?set=1", "id.example.org", 8443, "/?set=1"),
            ("http://127.0.0.1:1/jwks", "127.0.0.1", 1, "/jwks"),
            ("http://[::1]/", "::1", 80, "/"),
            ("http://localhost", "localhost", 80, "/"),
        ] {
            let url = JwksUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.port(), &*url.target()), (host, port, target), "{text}");
            assert_eq!(url.is_tls(), text.starts_with("https:"));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (text, error) in [
            ("", UrlError::Malformed),
            ("/jwks", UrlError::Malformed),
            ("gitlab.com/keys", UrlError::Malformed),
            ("file:///etc/jwks", UrlError::Malformed),
            ("ftp://gitlab.com/keys", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https://host:/", UrlError::Malformed),
            ("https://user:secret@host/", UrlError::Credentials),
            ("http://gitlab.com/keys", UrlError::Insecure),
            ("http://127.0.0.1.example.org/", UrlError::Insecure),
            ("http://192.0.2.1/", UrlError::Insecure),
        ] {
            assert_eq!(JwksUrl::parse(text), Err(error), "{text}");
        }
    }
}
