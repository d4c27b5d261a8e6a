//! Identifies a client for fair sharing.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The network part of an IPv6 address (RFC 4291, section 2.5.4). One machine may use any address of its /64.
const NETWORK: u128 = !0 << 64;

/// Identity of a client, as far as fair sharing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// An IPv4 address (IPv4-mapped), or an IPv6 network of 64 bits.
    Addr(Ipv6Addr),
    /// A reverse proxy, or a Unix socket of this machine. Any number of clients may be behind it, so what it holds does
    /// not count against it.
    Proxy,
    /// Work of this server for all clients.
    Server,
    /// Somebody whose credentials were verified, by a hash of the name: the same from every address.
    Principal(u64),
}

impl ClientId {
    /// Returns the client at this address.
    #[must_use]
    pub fn from_addr(address: IpAddr) -> Self {
        Self::Addr(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK),
        })
    }

    /// Returns whether this is a single client or principal, whose permits count against it.
    #[must_use]
    pub const fn has_quota(self) -> bool {
        matches!(self, Self::Addr(_) | Self::Principal(_))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(network) => match network.to_ipv4_mapped() {
                Some(address) => write!(f, "{address}"),
                None => write!(f, "{network}/64"),
            },
            Self::Proxy => write!(f, "a proxy"),
            Self::Server => write!(f, "harmonia"),
            Self::Principal(_) => write!(f, "a principal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> ClientId {
        ClientId::from_addr(address.parse().unwrap())
    }

    #[test]
    fn a_client_is_an_address_or_an_ipv6_network() {
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        assert_eq!(from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::2"));
        assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
        let names = [from("192.0.2.1"), from("2001:db8:0:1::1")].map(|client| client.to_string());
        assert_eq!(names, ["192.0.2.1", "2001:db8:0:1::/64"]);
        assert!(from("::1").has_quota() && !ClientId::Proxy.has_quota() && !ClientId::Server.has_quota());
    }
}
