//! Addresses of peers, one or a network of them: `192.0.2.1`, `2001:db8::/32`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    /// How many bits.
    prefix: u8,
}

/// A text that is no address and no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address\n  help: write one such as \"192.0.2.1\", or a network such as \"192.0.2.0/24\"")]
pub struct CidrError(String);

impl Cidr {
    /// Where connections from this machine come from.
    pub const LOOPBACK: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    ];

    /// Whether the address is one of them. An IPv4 address may be written as an IPv6 one, as a socket for both has it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                leading(u128::from(ours.to_bits() ^ other.to_bits()) << 96) >= self.prefix
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => leading(ours.to_bits() ^ other.to_bits()) >= self.prefix,
            _ => false,
        }
    }
}

/// How many bits are the same, by their difference.
fn leading(difference: u128) -> u8 {
    u8::try_from(difference.leading_zeros()).unwrap_or(u8::MAX)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        parse(text).ok_or_else(|| CidrError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Cidr> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
    (prefix <= longest).then_some(Cidr { address, prefix })
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
        for bad in ["", "localhost", "192.0.2", "192.0.2.1/33", "::1/129", "192.0.2.1/", "192.0.2.1/-1", "::1/a"] {
            assert_eq!(bad.parse::<Cidr>(), Err(CidrError(bad.to_owned())));
        }
    }
}
