//! Which client a request is for: decided once, here, by where its connection comes from and by its head.
//!
//! A proxy adds the address of its peer to `X-Forwarded-For`, so that the last one is true where the header comes from a
//! proxy; what stands before it anybody may have written. Without the header all clients of the proxy are as one.

use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderValue};

use crate::config::Cidr;
use crate::fairness::ClientId;

/// The client at the other end of a connection from this address, of which these are proxies; without an address it is one of a
/// Unix socket.
pub(super) fn peer(address: Option<IpAddr>, proxies: &[Cidr]) -> ClientId {
    match address {
        Some(address) if !proxies.iter().any(|proxies| proxies.contains(address)) => ClientId::from_addr(address),
        _ => ClientId::Proxy,
    }
}

/// The client that a request with these headers is for, and its address, by who is at the other end of the connection.
pub(super) fn behind(peer: ClientId, address: Option<IpAddr>, headers: &HeaderMap) -> (ClientId, Option<IpAddr>) {
    match peer {
        ClientId::Proxy => {
            last(headers).map_or((peer, address), |address| (ClientId::from_addr(address), Some(address)))
        }
        ClientId::Addr(_) | ClientId::Server => (peer, address),
    }
}

fn last(headers: &HeaderMap) -> Option<IpAddr> {
    let value: &HeaderValue = headers.get_all("x-forwarded-for").iter().next_back()?;
    value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_proxy(values: &[&str]) -> ClientId {
        let headers = values.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect();
        let other = ClientId::from_addr([203, 0, 113, 7].into());
        let own = Some([203, 0, 113, 7].into());
        assert_eq!(behind(other, own, &headers), (other, own));
        let (client, address) = behind(ClientId::Proxy, None, &headers);
        assert_eq!(address.map_or(ClientId::Proxy, ClientId::from_addr), client);
        client
    }

    #[test]
    fn the_last_address_is_that_of_the_proxys_client() {
        let expected = ClientId::from_addr([192, 0, 2, 1].into());
        for values in [&["192.0.2.1"][..], &["10.9.9.9, 192.0.2.1"], &["10.9.9.9", "10.9.9.8,192.0.2.1 "]] {
            assert_eq!(of_proxy(values), expected, "{values:?}");
        }
        for values in [&[][..], &["unknown"], &["192.0.2.1, unknown"], &["192.0.2.1", ""], &["[::1]:80"]] {
            assert_eq!(of_proxy(values), ClientId::Proxy, "{values:?}");
        }
    }

    #[test]
    fn this_machine_and_its_sockets_are_proxies_and_others_are_clients() {
        for address in [None, Some("127.0.0.1"), Some("::1"), Some("::ffff:127.0.0.2")] {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(peer(address, &Cidr::LOOPBACK), ClientId::Proxy, "{address:?}");
        }
        let other = "192.0.2.1".parse().unwrap();
        assert_eq!(peer(Some(other), &Cidr::LOOPBACK), ClientId::from_addr(other));
    }
}
