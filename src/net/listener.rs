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
    /// Of the addresses of a name the first that can be bound is taken. `[::]` serves IPv4 as well.
    /// A Unix socket that nobody answers on is replaced.
    pub async fn bind(address: &BindAddress, mode: SocketMode) -> Result<Self, BindError> {
        let bound = match address {
            BindAddress::Tcp(name) => {
                let candidates =
                    resolve(name).await.map_err(|cause| BindError::Resolve { address: address.clone(), cause })?;
                tcp(&candidates)
            }
            BindAddress::Unix(path) => {
                return bind_unix(path, mode).await.map(|(listener, file)| Self(Bound::Unix(listener, file)));
            }
        };
        bound.map(Self).map_err(|cause| BindError::Bind { address: address.clone(), cause })
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
    let addresses: Vec<_> = found.map_err(|_| io::ErrorKind::TimedOut)??.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    Ok(addresses)
}

fn tcp(candidates: &[SocketAddr]) -> io::Result<Bound> {
    let mut first_error = None;
    for address in candidates {
        match tcp_listener(*address) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok(Bound::Tcp(listener, address));
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
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
mod tests {
    use super::*;

    fn address(text: &str) -> BindAddress {
        text.parse().unwrap()
    }

    fn unix_address(path: &Path) -> BindAddress {
        BindAddress::Unix(path.to_owned())
    }

    async fn bind(address: &BindAddress) -> Result<Listener, BindError> {
        Listener::bind(address, SocketMode::default()).await
    }

    async fn accept(listener: &Listener) -> io::Result<Socket> {
        let (socket, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
        Ok(socket)
    }

    #[tokio::test]
    async fn port_0_is_replaced_by_the_one_that_the_kernel_chose() {
        let listener = bind(&address("127.0.0.1:0")).await.unwrap();
        let url = listener.local_url(false);
        let port = url.strip_prefix("http://127.0.0.1:").unwrap();
        assert_ne!(port.parse::<u16>().unwrap(), 0);
        assert_eq!(listener.local_url(true), format!("https://127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn every_interface_serves_ipv4_too() {
        let listener = bind(&address("[::]:0")).await.unwrap();
        let Bound::Tcp(_, bound) = &listener.0 else {
            panic!("not TCP");
        };
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port()));
        let (client, accepted) = tokio::join!(client, accept(&listener));
        assert!(client.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn accepted_connections_have_no_delay_and_are_kept_alive() {
        let listener = bind(&address("127.0.0.1:0")).await.unwrap();
        let Bound::Tcp(_, bound) = &listener.0 else {
            panic!("not TCP");
        };
        let (_client, accepted) = tokio::join!(TcpStream::connect(bound), accept(&listener));
        let Socket::Tcp(accepted) = accepted.unwrap() else {
            panic!("not TCP");
        };
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE.0);
    }

    #[tokio::test]
    async fn names_are_resolved() {
        let listener = bind(&address("localhost:0")).await;
        assert!(listener.is_ok());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_with_help() {
        let first = bind(&address("127.0.0.1:0")).await.unwrap();
        let taken = first.local_url(false).replace("http://", "");
        let error = bind(&address(&taken)).await.unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(&format!("cannot listen on {taken}: ")), "{message}");
        assert!(message.contains("\n  help: another server"), "{message}");
    }

    /// A Unix socket as a killed server leaves it.
    fn stale(path: &Path) {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_and_open_to_those_it_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        for mode in [SocketMode::default(), "0660".parse().unwrap()] {
            stale(&path);
            let listener = Listener::bind(&unix_address(&path), mode).await.unwrap();
            assert_eq!(listener.local_url(true), format!("unix:{}", path.display()));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode.bits());
            let (client, accepted) = tokio::join!(UnixStream::connect(&path), accept(&listener));
            assert!(client.is_ok() && accepted.is_ok());
        }
    }

    #[tokio::test]
    async fn the_file_of_a_unix_socket_goes_with_its_listener_unless_it_is_anothers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(bind(&unix_address(&path)).await.unwrap());
        assert!(!path.exists());
        let listener = bind(&unix_address(&path)).await.unwrap();
        // The old one keeps its inode until then, so that the new one has another.
        fs::rename(&path, directory.path().join("old")).unwrap();
        stale(&path);
        drop(listener);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_unix_socket_that_somebody_answers_on_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = bind(&unix_address(&path)).await.unwrap();
        let second = bind(&unix_address(&path)).await;
        assert!(matches!(second, Err(BindError::InUse(_))));
        // The probe waits in the queue; the next one is a client.
        accept(&first).await.unwrap();
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), accept(&first));
        assert!(client.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn any_other_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::write(&path, "precious").unwrap();
        let error = bind(&unix_address(&path)).await.unwrap_err();
        assert!(matches!(error, BindError::NotASocket(_)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_missing_directory_is_named_with_help() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/socket");
        let error = bind(&unix_address(&path)).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("\n  help: create the directory"), "{message}");
    }
}
