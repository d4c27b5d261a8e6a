//! Listening sockets passed on by a service manager (sd_listen_fds(3)).
//!
//! Such a socket outlives the program, so no connection is lost while it restarts. Its address, its backlog and the file of a
//! Unix socket belong to the manager; only the options of its connections are set here.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use socket2::Type;
use tokio::net::{TcpListener, UnixListener};

use super::listener::{Bound, Listener, set_options};

/// Number of sockets, and the process that they are for.
const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_PID: &str = "LISTEN_PID";

/// Reason for which passed sockets cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketActivationError {
    /// The environment variables are wrong.
    #[error("cannot use the sockets passed by the service manager: {0}")]
    Environment(io::Error),
    /// A descriptor is not a listening stream socket.
    #[error(
        "cannot listen on the passed descriptor \"{0}\": it is not a listening stream socket\n  help: use ListenStream= and Accept=no in the socket unit"
    )]
    NotAListener(String),
    /// The kernel reported an error.
    #[error("cannot listen on the passed socket \"{name}\": {cause}")]
    Socket {
        /// Name of the socket (`FileDescriptorName=`).
        name: String,
        /// Error of the kernel.
        cause: io::Error,
    },
}

/// Returns the sockets passed to this process, in order, or none if it was started without socket activation.
///
/// Child processes do not inherit them.
pub(crate) fn activated_listeners() -> Result<Vec<Listener>, SocketActivationError> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set(LISTEN_FDS) && !is_set(LISTEN_PID) {
        tracing::warn!(
            "ignoring the sockets of the service manager: {LISTEN_FDS} is set without {LISTEN_PID}\n  help: let a wrapper script pass both variables on, and start harmonia by exec"
        );
    }
    let passed = sd_notify::listen_fds_with_names().map_err(SocketActivationError::Environment)?;
    passed.map(|(descriptor, name)| listener(descriptor, name)).collect()
}

fn listener(descriptor: RawFd, name: String) -> Result<Listener, SocketActivationError> {
    match bound(owned(descriptor).map_err(SocketActivationError::Environment)?) {
        Ok(Some(bound)) => Ok(Listener(bound)),
        Ok(None) => Err(SocketActivationError::NotAListener(name)),
        Err(cause) => Err(SocketActivationError::Socket { name, cause }),
    }
}

/// Duplicates a passed descriptor, which stays open itself.
#[expect(unsafe_code, reason = "the environment passes descriptors as bare numbers")]
fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is open, since sd-notify has just set its close-on-exec flag, and nothing in this process owns it and could
    // close it.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

/// Converts a descriptor to a listener, if it is one.
fn bound(descriptor: OwnedFd) -> io::Result<Option<Bound>> {
    if !is_socket(&descriptor)? {
        return Ok(None);
    }
    let socket = socket2::Socket::from(descriptor);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Ok(None);
    }
    let address = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    if let Some(tcp) = address.as_socket() {
        set_options(&socket)?;
        return Ok(Some(Bound::Tcp(TcpListener::from_std(socket.into())?, tcp)));
    }
    if !address.is_unix() {
        return Ok(None);
    }
    // An abstract address is written as in systemd's units.
    let path = address.as_pathname().map(PathBuf::from).or_else(|| {
        let name = address.as_abstract_namespace()?;
        Some(PathBuf::from(format!("@{}", String::from_utf8_lossy(name))))
    });
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Some(Bound::Passed(listener, path.unwrap_or_default())))
}

fn is_socket(descriptor: &OwnedFd) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    let file = File::from(descriptor.try_clone()?);
    Ok(file.metadata()?.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

    use super::*;

    fn url(descriptor: impl Into<OwnedFd>) -> String {
        Listener(bound(descriptor.into()).unwrap().unwrap()).local_url(false)
    }

    #[tokio::test]
    async fn tcp_and_unix_listeners_are_distinguished() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let tcp = std::net::TcpListener::bind((address, 0)).unwrap();
            let expected = format!("http://{}", tcp.local_addr().unwrap());
            assert_eq!(url(tcp), expected);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(url(unix), format!("unix:{}", path.display()));
        assert!(path.exists(), "the file belongs to the service manager");
    }

    #[tokio::test]
    async fn connections_of_a_passed_listener_have_nodelay_and_keepalive() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = socket2::SockRef::from(&tcp).try_clone().unwrap();
        bound(tcp.into()).unwrap().unwrap();
        assert!(shared.tcp_nodelay().unwrap() && shared.keepalive().unwrap());
    }

    #[tokio::test]
    async fn other_descriptors_are_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        for other in [OwnedFd::from(one), udp.into(), file.into()] {
            assert!(bound(other).unwrap().is_none());
        }
    }
}
