//! Listening sockets: bind, accept, and the address to tell.
//!
//! A Unix socket stays in the file system when the server ends, since it may be another server's by
//! then; the next bind removes it if nobody answers.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::config::BindAddress;

/// Connections that the kernel keeps for us; it lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// The name of a machine's own address is answered at once or not at all.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Silence after which TCP asks whether the peer is still there, and the time between two
/// questions. With Linux's nine of them a vanished client is noticed within about 3 minutes.
/// `TCP_USER_TIMEOUT` is not set: since Linux 5.11 it also cuts a client that is there but reads
/// nothing, and unanswered data ends after `tcp_retries2`, some 15 minutes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// Everybody may connect: what a Unix socket guards is decided by its directory.
const UNIX_MODE: u32 = 0o666;

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
pub struct Listener(Bound);

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds `address` and listens.
    ///
    /// Of the addresses of a name the first that can be bound is taken. `[::]` serves IPv4 as well.
    /// A Unix socket that nobody answers on is replaced.
    pub async fn bind(address: &BindAddress) -> Result<Self, BindError> {
        let bound = match address {
            BindAddress::Tcp(name) => {
                let candidates =
                    resolve(name).await.map_err(|cause| BindError::Resolve { address: address.clone(), cause })?;
                tcp(&candidates)
            }
            BindAddress::Unix(path) => {
                make_way(path).await?;
                unix(path)
            }
        };
        bound.map(Self).map_err(|cause| BindError::Bind { address: address.clone(), cause })
    }

    /// The address that is listened on, with the port that the kernel chose if it was left to it:
    /// `http://127.0.0.1:5000`, `https://` with `tls`, `unix:/path`.
    #[must_use]
    pub fn local_url(&self, tls: bool) -> String {
        match &self.0 {
            Bound::Tcp(_, address) if tls => format!("https://{address}"),
            Bound::Tcp(_, address) => format!("http://{address}"),
            Bound::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match &self.0 {
            Bound::Tcp(listener, _) => Ok(Socket::Tcp(listener.accept().await?.0)),
            Bound::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
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
    // Accepted sockets inherit both from this one.
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
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

fn unix(path: &Path) -> io::Result<Bound> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(UNIX_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Bound::Unix(listener, path.to_owned()))
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

    #[tokio::test]
    async fn port_0_is_replaced_by_the_one_that_the_kernel_chose() {
        let listener = Listener::bind(&address("127.0.0.1:0")).await.unwrap();
        let url = listener.local_url(false);
        let port = url.strip_prefix("http://127.0.0.1:").unwrap();
        assert_ne!(port.parse::<u16>().unwrap(), 0);
        assert_eq!(listener.local_url(true), format!("https://127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn every_interface_serves_ipv4_too() {
        let listener = Listener::bind(&address("[::]:0")).await.unwrap();
        let Bound::Tcp(_, bound) = &listener.0 else {
            panic!("not TCP");
        };
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port()));
        let (client, accepted) = tokio::join!(client, listener.accept());
        assert!(client.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn accepted_connections_have_no_delay_and_are_kept_alive() {
        let listener = Listener::bind(&address("127.0.0.1:0")).await.unwrap();
        let Bound::Tcp(_, bound) = &listener.0 else {
            panic!("not TCP");
        };
        let (_client, accepted) = tokio::join!(TcpStream::connect(bound), listener.accept());
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
        let listener = Listener::bind(&address("localhost:0")).await;
        assert!(listener.is_ok());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_with_help() {
        let first = Listener::bind(&address("127.0.0.1:0")).await.unwrap();
        let taken = first.local_url(false).replace("http://", "");
        let error = Listener::bind(&address(&taken)).await.unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(&format!("cannot listen on {taken}: ")), "{message}");
        assert!(message.contains("\n  help: another server"), "{message}");
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_and_open_to_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(Listener::bind(&unix_address(&path)).await.unwrap());
        assert!(path.exists());
        let listener = Listener::bind(&unix_address(&path)).await.unwrap();
        assert_eq!(listener.local_url(true), format!("unix:{}", path.display()));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, UNIX_MODE);
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(client.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn a_unix_socket_that_somebody_answers_on_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = Listener::bind(&unix_address(&path)).await.unwrap();
        let second = Listener::bind(&unix_address(&path)).await;
        assert!(matches!(second, Err(BindError::InUse(_))));
        // The probe waits in the queue; the next one is a client.
        first.accept().await.unwrap();
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), first.accept());
        assert!(client.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn any_other_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&unix_address(&path)).await.unwrap_err();
        assert!(matches!(error, BindError::NotASocket(_)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_missing_directory_is_named_with_help() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/socket");
        let error = Listener::bind(&unix_address(&path)).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("\n  help: create the directory"), "{message}");
    }
}
