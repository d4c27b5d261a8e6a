//! Networks of IP addresses in CIDR notation: `2001:db8::/32`, or a single address such as `192.0.2.1`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Network of IP addresses; a single address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

/// Error of a text that is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address\n  help: write one such as \"192.0.2.1\", or a network such as \"192.0.2.0/24\"")]
pub struct CidrError(String);

impl Cidr {
    /// Networks of connections from this machine.
    pub const LOOPBACK: [Self; 2] = [
        Self(IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8)),
        Self(IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
    ];

    /// Returns whether the network contains the address. An IPv4-mapped IPv6 address, as dual-stack sockets report it,
    /// counts as IPv4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Accepts set bits after the prefix, as in `10.1.2.3/16`.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        parse(text).map(Self).ok_or_else(|| CidrError(text.to_owned()))
    }
}

/// Parses addresses with std: `IpNet` reads `010.0.0.0/8`, which is octal to others, as `10.0.0.0/8`.
fn parse(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some((address, prefix)) => IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok(),
        None => text.parse().ok().map(|address: IpAddr| address.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Cidr>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_with_its_first_bits() {
        for (network, inside, outside) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("127.0.0.0/8", "127.255.0.9", "128.0.0.1"),
            ("10.1.2.3/16", "::ffff:10.1.9.9", "10.2.2.3"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
        ] {
            assert!(contains(network, inside) && !contains(network, outside), "{network}");
        }
        let [four, six] = Cidr::LOOPBACK;
        assert_eq!(("127.0.0.0/8".parse(), "::1".parse()), (Ok(four), Ok(six)));
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            "",
            "localhost",
            "192.0.2",
            "192.0.2.1/33",
            "::1/129",
            "192.0.2.1/",
            "192.0.2.1/-1",
            "::1/a",
            "010.0.0.0/8",
        ] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError(bad.to_owned())));
        }
    }
}
