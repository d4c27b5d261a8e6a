//! Bind address: the address that the server listens on.
//!
//! Owns the syntax (`host:port`, `[::]:5000`, `unix:/path`). Leaves resolving host names and binding sockets to the
//! listeners.

use std::fmt;
use std::net::SocketAddrV6;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::unix_socket::MAX_UNIX_PATH;

/// Upper bound of a DNS name in text form, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST: usize = 253;

/// Address that the server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindAddress {
    /// `host:port`, with an IPv6 address in brackets. The kernel chooses a free port for port 0.
    Tcp(String),
    /// Absolute path of a Unix socket, written `unix:/path` or `unix:///path`.
    Unix(PathBuf),
}

/// Error of a text that is not a [`BindAddress`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BindAddressError {
    /// TCP address without a port, or with a port that is not a number up to 65535.
    #[error(
        "bind address \"{0}\" has no valid port\n  help: write host:port, e.g. \"127.0.0.1:5000\" or \"[::]:5000\""
    )]
    Port(String),
    /// TCP address whose host is empty, too long, or contains characters that no host name has.
    #[error(
        "bind address \"{0}\" has no valid host\n  help: every interface is \"[::]:5000\", this machine alone is \"127.0.0.1:5000\""
    )]
    Host(String),
    /// URL instead of an address.
    #[error(
        "bind address \"{0}\" is a URL\n  help: write the address alone, e.g. \"[::]:5000\"; https is served where tls_cert_path and tls_key_path are set"
    )]
    Url(String),
    /// IPv6 address without brackets.
    #[error(
        "bind address \"{0}\" has an IPv6 address without brackets\n  help: write \"[ADDRESS]:PORT\", e.g. \"[::1]:5000\""
    )]
    Brackets(String),
    /// Relative path of a Unix socket.
    #[error(
        "bind address \"{0}\" has a relative path\n  help: write an absolute one, e.g. \"unix:/run/harmonia/socket\""
    )]
    Relative(String),
    /// Path of a Unix socket that does not fit into a socket address.
    #[error(
        "bind address \"{0}\" has a path of more than {MAX_UNIX_PATH} bytes\n  help: the kernel takes no longer one; choose a shorter directory"
    )]
    TooLong(String),
}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            // `unix:///path` is the form of a URL.
            Some(path) => {
                unix(text, Path::new(path.strip_prefix("//").filter(|it| it.starts_with('/')).unwrap_or(path)))
            }
            None => tcp(text),
        }
    }
}

fn unix(text: &str, path: &Path) -> Result<BindAddress, BindAddressError> {
    if !path.is_absolute() {
        return Err(BindAddressError::Relative(text.to_owned()));
    }
    if path.as_os_str().as_bytes().len() > MAX_UNIX_PATH {
        return Err(BindAddressError::TooLong(text.to_owned()));
    }
    Ok(BindAddress::Unix(path.to_owned()))
}

fn tcp(text: &str) -> Result<BindAddress, BindAddressError> {
    if text.contains("://") {
        return Err(BindAddressError::Url(text.to_owned()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| BindAddressError::Port(text.to_owned()))?;
    // `u16::from_str` accepts a plus sign.
    if port.starts_with('+') || port.parse::<u16>().is_err() {
        return Err(BindAddressError::Port(text.to_owned()));
    }
    if host.starts_with('[') {
        // Accepts numeric zones too: `[fe80::1%2]:5000`.
        return match text.parse::<SocketAddrV6>() {
            Ok(_) => Ok(BindAddress::Tcp(text.to_owned())),
            Err(_) => Err(BindAddressError::Host(text.to_owned())),
        };
    }
    if host.contains(':') {
        return Err(BindAddressError::Brackets(text.to_owned()));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(plain) {
        return Err(BindAddressError::Host(text.to_owned()));
    }
    Ok(BindAddress::Tcp(text.to_owned()))
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<BindAddress, BindAddressError> {
        text.parse()
    }

    #[test]
    fn addresses_of_either_kind_are_taken_and_shown_as_written() {
        for text in
            ["127.0.0.1:5000", "0.0.0.0:0", "[::]:5000", "[fe80::1%2]:80", "localhost:65535", "cache.example.org:80"]
        {
            let address = parse(text).unwrap();
            assert_eq!(address, BindAddress::Tcp(text.to_owned()));
            assert_eq!(address.to_string(), text);
        }
        for text in ["unix:/run/harmonia/socket", "unix:///run/harmonia/socket"] {
            let unix = parse(text).unwrap();
            assert_eq!(unix, BindAddress::Unix("/run/harmonia/socket".into()));
            assert_eq!(unix.to_string(), "unix:/run/harmonia/socket");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let text = |text: &str| text.to_owned();
        for (bad, error) in [
            ("", BindAddressError::Port(text(""))),
            ("localhost", BindAddressError::Port(text("localhost"))),
            ("host:http", BindAddressError::Port(text("host:http"))),
            ("host:65536", BindAddressError::Port(text("host:65536"))),
            ("host:+80", BindAddressError::Port(text("host:+80"))),
            ("host:", BindAddressError::Port(text("host:"))),
            (":5000", BindAddressError::Host(text(":5000"))),
            ("a b:5000", BindAddressError::Host(text("a b:5000"))),
            ("http://[::]:5000", BindAddressError::Url(text("http://[::]:5000"))),
            ("[nonsense]:5000", BindAddressError::Host(text("[nonsense]:5000"))),
            ("::1:5000", BindAddressError::Brackets(text("::1:5000"))),
            ("unix:", BindAddressError::Relative(text("unix:"))),
            ("unix:run/socket", BindAddressError::Relative(text("unix:run/socket"))),
        ] {
            assert_eq!(parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn every_error_has_a_help_line() {
        for bad in ["x", ":1", "::1:5", "unix:x"] {
            let message = parse(bad).unwrap_err().to_string();
            assert!(message.contains("\n  help: "), "{message}");
        }
    }

    #[test]
    fn a_unix_path_may_have_107_bytes_and_no_more() {
        let path = format!("unix:/{}", "x".repeat(106));
        assert!(parse(&path).is_ok());
        let longer = format!("{path}x");
        assert_eq!(parse(&longer), Err(BindAddressError::TooLong(longer)));
    }

    proptest! {
        #[test]
        fn what_is_taken_reads_back_as_itself(text in "(unix:/?|\\[|)[a-z0-9:.\\]/ ]{0,20}:?[0-9]{0,6}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }
    }
}
