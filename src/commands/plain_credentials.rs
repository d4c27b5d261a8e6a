//! Warning about passwords and tokens that others on the network can read.

use std::net::IpAddr;

use crate::config::{BindAddress, Config};

/// Logs a warning if clients send passwords or tokens without TLS to one of these addresses. Certificates need TLS anyway.
pub(super) fn warn(config: &Config, mut addresses: impl Iterator<Item = IpAddr>) {
    let has_secrets = config.access.as_ref().is_some_and(|it| it.users_file.is_some() || !it.jwt.is_empty());
    let is_remote = |address: IpAddr| !address.to_canonical().is_loopback();
    if has_secrets && config.tls.is_none() && addresses.any(is_remote) {
        tracing::warn!(
            "passwords and tokens of clients on other machines are sent without encryption\n  help: set tls_cert_path and \
             tls_key_path; or bind = \"127.0.0.1:5000\" behind a proxy with TLS"
        );
    }
}

/// Returns the addresses of `bind`, as far as they are written there; a host name counts as one of other machines.
pub(super) fn configured(bind: &BindAddress) -> Option<IpAddr> {
    let BindAddress::Tcp(address) = bind else { return None };
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    Some(host.parse().unwrap_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine_alone() {
        let is_loopback = |bind: &str| configured(&bind.parse().unwrap()).map(|it| it.is_loopback());
        for bind in ["127.0.0.1:5000", "[::1]:5000", "localhost:5000"] {
            assert_eq!(is_loopback(bind), Some(true), "{bind}");
        }
        for bind in ["[::]:5000", "0.0.0.0:5000", "192.0.2.1:5000", "cache.example.org:80"] {
            assert_eq!(is_loopback(bind), Some(false), "{bind}");
        }
        assert_eq!(is_loopback("unix:/run/s"), None);
    }
}
