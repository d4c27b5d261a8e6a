//! The client that a request is for, decided once: by where its connection comes from, and by its head.
//!
//! A proxy appends the address of its peer to `X-Forwarded-For`, so the last address can be trusted if the connection comes
//! from a trusted proxy; anybody may have written those before it. Without the header all clients of a proxy count as one.

use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderValue};

use crate::config::Cidr;
use crate::fairness::ClientId;

/// Returns the client at the other end of a connection. A trusted proxy is [`ClientId::Proxy`], and so is a Unix socket, which has
/// no address.
pub(super) fn peer_client(address: Option<IpAddr>, proxies: &[Cidr]) -> ClientId {
    match address {
        Some(address) if !proxies.iter().any(|proxies| proxies.contains(address)) => ClientId::from_addr(address),
        _ => ClientId::Proxy,
    }
}

/// Returns the client that a request with these headers is for, and its address, given the client at the other end of the
/// connection.
pub(super) fn client_of(peer: ClientId, address: Option<IpAddr>, headers: &HeaderMap) -> (ClientId, Option<IpAddr>) {
    match peer {
        ClientId::Proxy => {
            last_forwarded(headers).map_or((peer, address), |address| (ClientId::from_addr(address), Some(address)))
        }
        ClientId::Addr(_) | ClientId::Server | ClientId::Principal(_) => (peer, address),
    }
}

fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let value: &HeaderValue = headers.get_all("x-forwarded-for").iter().next_back()?;
    value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of_proxy(values: &[&str]) -> ClientId {
        let headers = values.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect();
        let other = ClientId::from_addr([203, 0, 113, 7].into());
        let own = Some([203, 0, 113, 7].into());
        assert_eq!(client_of(other, own, &headers), (other, own));
        let (client, address) = client_of(ClientId::Proxy, None, &headers);
        assert_eq!(address.map_or(ClientId::Proxy, ClientId::from_addr), client);
        client
    }

    #[test]
    fn the_last_address_is_that_of_the_proxys_client() {
        let expected = ClientId::from_addr([192, 0, 2, 1].into());
        for values in [&["192.0.2.1"][..], &["10.9.9.9, 192.0.2.1"], &["10.9.9.9", "10.9.9.8,192.0.2.1 "]] {
            assert_eq!(client_of_proxy(values), expected, "{values:?}");
        }
        for values in [&[][..], &["unknown"], &["192.0.2.1, unknown"], &["192.0.2.1", ""], &["[::1]:80"]] {
            assert_eq!(client_of_proxy(values), ClientId::Proxy, "{values:?}");
        }
    }

    #[test]
    fn this_machine_and_its_sockets_are_proxies_and_others_are_clients() {
        for address in [None, Some("127.0.0.1"), Some("::1"), Some("::ffff:127.0.0.2")] {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(peer_client(address, &Cidr::LOOPBACK), ClientId::Proxy, "{address:?}");
        }
        let other = "192.0.2.1".parse().unwrap();
        assert_eq!(peer_client(Some(other), &Cidr::LOOPBACK), ClientId::from_addr(other));
    }
}
