//! Finds URLs by which other machines may reach this one: its own addresses that answer.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Limit on URLs. Hosts with containers have many addresses that others cannot reach.
const MAX_URLS: usize = 4;
/// Limit on one probe, which goes from this process to itself.
const TIMEOUT: Duration = Duration::from_secs(2);

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const STATUS_LINE: &[u8; 12] = b"HTTP/1.1 200";

/// Returns the URLs of a server without TLS that listens on all addresses, with the address of the default route first. Empty
/// if this machine has only loopback addresses.
pub(super) async fn urls(listening: SocketAddr) -> Vec<String> {
    let mut urls = Vec::new();
    for address in candidates(listening.is_ipv6()) {
        let address = SocketAddr::new(address, listening.port());
        if urls.len() < MAX_URLS && matches!(timeout(TIMEOUT, answers(address)).await, Ok(Ok(true))) {
            urls.push(format!("http://{address}"));
        }
    }
    urls
}

async fn answers(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = [0; STATUS_LINE.len()];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == STATUS_LINE)
}

/// Returns the addresses of this machine that others may reach, without duplicates. An IPv6 socket accepts IPv4 too.
fn candidates(v6: bool) -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_else(|cause| {
        tracing::debug!("cannot list the network interfaces: {cause}");
        Vec::new()
    });
    let mut interfaces: Vec<_> = found.iter().map(if_addrs::Interface::ip).collect();
    interfaces.sort_by_key(IpAddr::is_ipv6);
    let mut seen = HashSet::new();
    outward().into_iter().chain(interfaces).filter(|it| may_be_reachable(*it, v6) && seen.insert(*it)).collect()
}

fn may_be_reachable(address: IpAddr, v6: bool) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local() && !address.is_unspecified(),
        // A link-local address needs the name of the interface on the other machine.
        IpAddr::V6(address) => {
            v6 && !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified()
        }
    }
}

/// Returns the source addresses of the default routes. Connecting a UDP socket sends nothing; it makes the kernel choose a
/// route, here to an address that is reserved for documentation (RFC 5737, RFC 3849).
fn outward() -> Vec<IpAddr> {
    let ways: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let chosen = |(own, remote): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((remote, 9))?;
        io::Result::Ok(socket.local_addr()?.ip())
    };
    ways.into_iter().filter_map(|way| chosen(way).ok()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with these bytes.
    async fn server(address: &str, answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind(address).await.unwrap();
        let bound = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.read_exact(&mut [0; REQUEST.len()]).await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
        });
        bound
    }

    #[tokio::test]
    async fn an_address_counts_only_if_it_answers() {
        let well = server("127.0.0.1:0", b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(answers(well).await.unwrap());
        let ill = server("127.0.0.1:0", b"HTTP/1.1 404 Not Found\r\n\r\n").await;
        assert!(!answers(ill).await.unwrap());
        let silent = server("127.0.0.1:0", b"").await;
        assert!(answers(silent).await.is_err());
    }

    #[tokio::test]
    async fn what_is_printed_are_addresses_of_this_machine_with_the_port() {
        let bound = server("0.0.0.0:0", b"HTTP/1.1 200 OK\r\n\r\n").await;
        for url in urls(bound).await {
            let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
            assert_eq!(address.port(), bound.port());
            assert!(may_be_reachable(address.ip(), false) && answers(address).await.unwrap(), "{url}");
        }
    }

    #[test]
    fn addresses_that_mean_nothing_elsewhere_are_left_out() {
        for (address, v6, is_listed) in [
            ("127.0.0.1", true, false),
            ("169.254.1.1", true, false),
            ("10.0.0.1", false, true),
            ("::1", true, false),
            ("fe80::1", true, false),
            ("2001:db8::1", true, true),
            ("2001:db8::1", false, false),
        ] {
            assert_eq!(may_be_reachable(address.parse().unwrap(), v6), is_listed, "{address}");
        }
    }
}
