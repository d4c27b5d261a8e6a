//! Whom a request comes from, as far as fairness goes: it tells clients apart, and nothing else is made of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The part of an IPv6 address that a network hands out (RFC 4291, section 2.5.4): one machine may have all that is
/// behind it.
const NETWORK: u128 = !0 << 64;

/// One of those that share what is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// Whoever has this address, or one of this IPv6 network of 64 bits.
    Network(Ipv6Addr),
    /// A reverse proxy or a socket of this machine. There may be any number of clients behind it, so that what it holds does
    /// not count against it.
    Proxy,
    /// This server, at what it does for all clients.
    Server,
}

impl Client {
    /// The client at this address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK),
        })
    }

    /// Whether it is one client, against which counts what it holds.
    #[must_use]
    pub const fn is_one(self) -> bool {
        matches!(self, Self::Network(_))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => match network.to_ipv4_mapped() {
                Some(address) => write!(f, "{address}"),
                None => write!(f, "{network}/64"),
            },
            Self::Proxy => write!(f, "a proxy"),
            Self::Server => write!(f, "harmonia"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Client {
        Client::at(address.parse().unwrap())
    }

    #[test]
    fn a_client_is_an_address_or_an_ipv6_network() {
        assert_eq!(at("192.0.2.1"), at("::ffff:192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8:0:1::1"), at("2001:db8:0:1:ffff::2"));
        assert_ne!(at("2001:db8:0:1::1"), at("2001:db8:0:2::1"));
        let names = [at("192.0.2.1"), at("2001:db8:0:1::1")].map(|client| client.to_string());
        assert_eq!(names, ["192.0.2.1", "2001:db8:0:1::/64"]);
        assert!(at("::1").is_one() && !Client::Proxy.is_one() && !Client::Server.is_one());
    }
}
