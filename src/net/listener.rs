//! Listening sockets: binding, accepting, and the address to announce. Sockets passed by the service manager are opened in
//! `socket_activation`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::timeout;

use super::bind_error::BindError;
use super::unix_socket::{BACKLOG, SocketFile, bind_unix};
use crate::config::{BindAddress, SocketMode};

/// Timeout for resolving a name of this machine, which takes no time if it works.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts to find a port that is free at several addresses, if the kernel chooses it.
const MAX_ATTEMPTS: u32 = 8;

/// Idle time before the first TCP keepalive probe, and the interval between probes. With Linux's nine probes a vanished client
/// is detected within about 3 minutes. `TCP_USER_TIMEOUT` is not set: since Linux 5.11 it also cuts a client that is there but
/// reads nothing, and unacknowledged data ends the connection after `tcp_retries2`, some 15 minutes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener(pub(super) Bound);

#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
    /// A Unix socket of the service manager, whose file is not ours.
    Passed(UnixListener, PathBuf),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds `address` and listens; a Unix socket gets `mode`.
    ///
    /// All addresses of a name that this machine has are bound, to one port. `[::]` serves IPv4 as well. A stale Unix socket is
    /// replaced.
    pub(crate) async fn bind(address: &BindAddress, mode: SocketMode) -> Result<Vec<Self>, BindError> {
        match address {
            BindAddress::Tcp(name) => {
                let addresses =
                    resolve(name).await.map_err(|cause| BindError::Resolve { address: address.clone(), cause })?;
                tcp(&addresses).map_err(|cause| BindError::Bind { address: address.clone(), cause })
            }
            BindAddress::Unix(path) => {
                let (listener, file) = bind_unix(path, mode).await?;
                Ok(vec![Self(Bound::Unix(listener, file))])
            }
        }
    }

    /// Returns the TCP address, with the port that the kernel chose for port 0, or `None` for a Unix socket.
    #[must_use]
    pub(crate) const fn tcp_address(&self) -> Option<SocketAddr> {
        if let Bound::Tcp(_, address) = &self.0 { Some(*address) } else { None }
    }

    /// Returns the address as a URL, with the port that the kernel chose for port 0: `http://127.0.0.1:5000`, `https://` with
    /// `tls`, `unix:/path`.
    #[must_use]
    pub(crate) fn local_url(&self, tls: bool) -> String {
        match &self.0 {
            Bound::Tcp(_, address) if tls => format!("https://{address}"),
            Bound::Tcp(_, address) => format!("http://{address}"),
            Bound::Unix(_, file) => format!("unix:{}", file.path().display()),
            Bound::Passed(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Polls for the next connection and the address of its peer, which a Unix socket does not have.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<IpAddr>)>> {
        Poll::Ready(match &self.0 {
            Bound::Tcp(listener, _) => {
                ready!(listener.poll_accept(cx)).map(|(socket, peer)| (Socket::Tcp(socket), Some(peer.ip())))
            }
            Bound::Unix(listener, _) | Bound::Passed(listener, _) => {
                ready!(listener.poll_accept(cx)).map(|(socket, _)| (Socket::Unix(socket), None))
            }
        })
    }
}

async fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host(name)).await;
    let mut addresses: Vec<_> = found.map_err(|_| io::ErrorKind::TimedOut)??.collect();
    // Resolvers may list an address twice.
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

/// Binds those addresses of a name that this machine has.
fn tcp(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    for attempt in 1.. {
        match on_one_port(addresses) {
            // The port that the kernel chose for the first address may be in use at another.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && addresses[0].port() == 0 && attempt < MAX_ATTEMPTS => {}
            bound => return bound,
        }
    }
    Ok(Vec::new())
}

fn on_one_port(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    let (mut bound, mut absent) = (Vec::new(), None);
    let mut port = None;
    for address in addresses {
        let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        match tcp_listener(address) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                port = Some(address.port());
                bound.push(Listener(Bound::Tcp(listener, address)));
            }
            Err(error) if addresses.len() == 1 => return Err(error),
            Err(error) if is_absent(&error) => absent = Some(error),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
        }
    }
    match absent {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

/// Returns whether no interface of this machine has the address.
fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

fn tcp_listener(mut address: SocketAddr) -> io::Result<TcpListener> {
    let open = |address| socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = match open(address) {
        // Without IPv6 in the kernel, `[::]` means every IPv4 interface.
        Err(error) if address.ip().is_unspecified() && Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
            address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            open(address)?
        }
        opened => opened?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Sets the options that accepted sockets inherit.
pub(super) fn set_options(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests;
