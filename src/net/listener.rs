//! Listening sockets: bind, accept, and the address to tell. Those that come bound are
//! [`inherited`](mod@super::inherited)'s.
//!
//! The file of a Unix socket is removed when its listener is dropped, unless it is another server's by
//! then. One that a killed server left is removed by the next bind if nobody answers on it.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::config::{BindAddress, SocketMode};

/// Connections that the kernel keeps for us; it lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// The name of a machine's own address is answered at once or not at all.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ports that are tried for several addresses, where the kernel chooses it.
const TRIES: u32 = 8;

/// Silence after which TCP asks whether the peer is still there, and the time between two
/// questions. With Linux's nine of them a vanished client is noticed within about 3 minutes.
/// `TCP_USER_TIMEOUT` is not set: since Linux 5.11 it also cuts a client that is there but reads
/// nothing, and unanswered data ends after `tcp_retries2`, some 15 minutes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The host has no address.
    #[error("cannot resolve {address}: {cause}\n  help: write an address, e.g. \"[::]:5000\" for every interface")]
    Resolve {
        /// What was to be bound.
        address: BindAddress,
        /// Why not.
        cause: io::Error,
    },
    /// The kernel refused.
    #[error("cannot listen on {address}: {cause}{}", help(.cause))]
    Bind {
        /// What was to be bound.
        address: BindAddress,
        /// Why not.
        cause: io::Error,
    },
    /// There is something else where the socket is to be.
    #[error(
        "cannot listen on unix:{}: the file there is not a socket\n  help: remove it or choose another path", .0.display()
    )]
    NotASocket(PathBuf),
    /// Another server answers on the socket.
    #[error(
        "cannot listen on unix:{}: another server answers there\n  help: stop it or choose another path", .0.display()
    )]
    InUse(PathBuf),
}

fn help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "\n  help: another server has this port; try: ss -ltnp, or choose another one",
        io::ErrorKind::AddrNotAvailable => "\n  help: no interface has this address; \"[::]:PORT\" is every interface",
        io::ErrorKind::PermissionDenied => {
            "\n  help: a port below 1024 needs CAP_NET_BIND_SERVICE, a Unix socket a directory that is writable"
        }
        io::ErrorKind::NotFound => "\n  help: create the directory of the socket first",
        _ => "",
    }
}

/// A bound socket that connections are accepted from.
#[derive(Debug)]
pub struct Listener(pub(super) Bound);

#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
    /// A Unix socket whose file is not ours.
    Inherited(UnixListener, PathBuf),
}

/// The file of a bound Unix socket, removed on drop if it is still this one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // One that cannot be removed is stale, and the next bind's business.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
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
    /// All addresses of a name that this machine has are bound, to one port. `[::]` serves IPv4 as well.
    /// A Unix socket that nobody answers on is replaced.
    pub async fn bind(address: &BindAddress, mode: SocketMode) -> Result<Vec<Self>, BindError> {
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

    /// The address that is listened on, with the port that the kernel chose if it was left to it; none of a Unix socket.
    #[must_use]
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        if let Bound::Tcp(_, address) = &self.0 { Some(*address) } else { None }
    }

    /// The address that is listened on, with the port that the kernel chose if it was left to it:
    /// `http://127.0.0.1:5000`, `https://` with `tls`, `unix:/path`.
    #[must_use]
    pub fn local_url(&self, tls: bool) -> String {
        match &self.0 {
            Bound::Tcp(_, address) if tls => format!("https://{address}"),
            Bound::Tcp(_, address) => format!("http://{address}"),
            Bound::Unix(_, SocketFile { path, .. }) | Bound::Inherited(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The next connection with its peer's address, if it has one, or a promise to wake the task that asked last.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Option<IpAddr>)>> {
        Poll::Ready(match &self.0 {
            Bound::Tcp(listener, _) => {
                ready!(listener.poll_accept(cx)).map(|(socket, peer)| (Socket::Tcp(socket), Some(peer.ip())))
            }
            Bound::Unix(listener, _) | Bound::Inherited(listener, _) => {
                ready!(listener.poll_accept(cx)).map(|(socket, _)| (Socket::Unix(socket), None))
            }
        })
    }
}

async fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host(name)).await;
    let mut addresses: Vec<_> = found.map_err(|_| io::ErrorKind::TimedOut)??.collect();
    // A name may be listed twice.
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

/// Binds those of the addresses of a name that this machine has.
fn tcp(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    for tries in 1.. {
        match on_one_port(addresses) {
            // The port that the kernel chose for the first address may be taken at another.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && addresses[0].port() == 0 && tries < TRIES => {}
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

/// Whether no interface of this machine has the address.
fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

fn tcp_listener(mut address: SocketAddr) -> io::Result<TcpListener> {
    let open = |address| socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = match open(address) {
        // A kernel without IPv6: every interface is every IPv4 one.
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
    tune(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Sets what accepted sockets inherit from this one.
pub(super) fn tune(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)
}

/// Binds a Unix socket with `mode` and listens. One that nobody answers on is replaced.
pub async fn bind_unix(path: &Path, mode: SocketMode) -> Result<(UnixListener, SocketFile), BindError> {
    make_way(path).await?;
    unix(path, mode).map_err(|cause| BindError::Bind { address: BindAddress::Unix(path.to_owned()), cause })
}

/// Removes a socket that nobody answers on; anything else at `path` is an error.
async fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |cause| BindError::Bind { address: BindAddress::Unix(path.to_owned()), cause };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        // A full queue refuses with this: somebody is there.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn unix(path: &Path, mode: SocketMode) -> io::Result<(UnixListener, SocketFile)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

#[cfg(test)]
mod tests;
