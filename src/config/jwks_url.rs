//! URLs of key sets: `access.jwt.jwks_url`.

/// Hosts to which plain http goes over no network.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Error of a text that no key set is fetched from.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a URL of https\n  help: write the URL that the issuer names as jwks_uri, or use jwks_path: whoever can change the \
     keys on their way can issue tokens"
)]
pub(super) struct JwksUrlError(String);

/// Parses a URL of https, or of http on this machine, without a user.
pub(super) fn jwks_url(text: &str) -> Result<String, JwksUrlError> {
    let (is_plain, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(JwksUrlError(text.to_owned())),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = |rest: &str| rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_loopback = LOOPBACK.iter().any(|host| authority.strip_prefix(host).is_some_and(port));
    let is_usable = !authority.is_empty()
        && !authority.contains('@')
        && (!is_plain || is_loopback)
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_usable { Ok(text.to_owned()) } else { Err(JwksUrlError(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for text in ["https://a.example/jwks?x=1", "http://127.0.0.1:8080/jwks", "http://[::1]/k", "http://localhost"] {
            assert_eq!(jwks_url(text).unwrap(), text);
        }
        for text in [
            "",
            "http://a.example/jwks",
            "http://localhost.evil.example/",
            "http://127.0.0.1@evil.example/",
            "https://",
            "https:///x",
            "https://user@a.example/",
            "https://a b/",
            "file:///etc/keys",
        ] {
            assert!(jwks_url(text).unwrap_err().to_string().contains("\n  help: "), "{text}");
        }
    }
}
