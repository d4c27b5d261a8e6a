//! Sockets that a service manager made and passed on: sd_listen_fds(3).
//!
//! Such a socket outlives the program, so that no connection is lost while it is started again. Its
//! address, its backlog and the file of a Unix socket are the manager's; what is set here is how its
//! connections behave.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use socket2::Type;
use tokio::net::{TcpListener, UnixListener};

use super::listener::{Bound, Listener, tune};

/// How many sockets there are, and for which process.
const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_PID: &str = "LISTEN_PID";

/// Why what was passed on cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The environment does not say what it has to.
    #[error("cannot take the sockets that were passed on: {0}")]
    Environment(io::Error),
    /// A descriptor is something else than a socket that connections are accepted from.
    #[error(
        "cannot listen on the descriptor \"{0}\" that was passed on: it is not a listening stream socket\n  help: the socket unit needs ListenStream= and Accept=no"
    )]
    NotAListener(String),
    /// The kernel refused.
    #[error("cannot listen on the socket \"{name}\" that was passed on: {cause}")]
    Socket {
        /// Its name (`FileDescriptorName=`).
        name: String,
        /// Why not.
        cause: io::Error,
    },
}

/// The sockets that were passed to this process, in their order; none where it was started otherwise.
///
/// They are closed in the programs that this one starts.
pub fn inherited() -> Result<Vec<Listener>, InheritError> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set(LISTEN_FDS) && !is_set(LISTEN_PID) {
        tracing::warn!(
            "{LISTEN_FDS} is set without {LISTEN_PID}, so the sockets of the service manager are not used\n  help: a shell or wrapper in between has to pass both on, and to start the program by exec"
        );
    }
    let passed = sd_notify::listen_fds_with_names().map_err(InheritError::Environment)?;
    passed.map(|(descriptor, name)| listener(descriptor, name)).collect()
}

fn listener(descriptor: RawFd, name: String) -> Result<Listener, InheritError> {
    match bound(owned(descriptor).map_err(InheritError::Environment)?) {
        Ok(Some(bound)) => Ok(Listener(bound)),
        Ok(None) => Err(InheritError::NotAListener(name)),
        Err(cause) => Err(InheritError::Socket { name, cause }),
    }
}

/// A duplicate of a descriptor that was passed on, which stays open itself.
#[expect(unsafe_code, reason = "the number in the environment is all that there is of such a descriptor")]
fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is open, since sd-notify has just set its flag, and nothing in this process owns it
    // and could close it.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

/// The listener that this is, if it is one.
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
        tune(&socket)?;
        return Ok(Some(Bound::Tcp(TcpListener::from_std(socket.into())?, tcp)));
    }
    if !address.is_unix() {
        return Ok(None);
    }
    // An abstract one is shown as in systemd's units.
    let path = address.as_pathname().map(PathBuf::from).or_else(|| {
        let name = address.as_abstract_namespace()?;
        Some(PathBuf::from(format!("@{}", String::from_utf8_lossy(name))))
    });
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Some(Bound::Inherited(listener, path.unwrap_or_default())))
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
    async fn listeners_of_either_kind_are_told_apart() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let tcp = std::net::TcpListener::bind((address, 0)).unwrap();
            let expected = format!("http://{}", tcp.local_addr().unwrap());
            assert_eq!(url(tcp), expected);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(url(unix), format!("unix:{}", path.display()));
        assert!(path.exists(), "the file belongs to who made it");
    }

    #[tokio::test]
    async fn connections_of_an_inherited_listener_have_no_delay_and_are_kept_alive() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = socket2::SockRef::from(&tcp).try_clone().unwrap();
        bound(tcp.into()).unwrap().unwrap();
        assert!(shared.tcp_nodelay().unwrap() && shared.keepalive().unwrap());
    }

    #[tokio::test]
    async fn what_accepts_no_connections_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        for other in [OwnedFd::from(one), udp.into(), file.into()] {
            assert!(bound(other).unwrap().is_none());
        }
    }
}
