//! Errors of binding a listening socket.

use std::io;
use std::path::PathBuf;

use crate::config::BindAddress;

/// Reason for which the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The host name cannot be resolved.
    #[error("cannot resolve {address}: {cause}\n  help: use an address, e.g. \"[::]:5000\" for every interface")]
    Resolve {
        /// The configured address.
        address: BindAddress,
        /// Error of the system.
        cause: io::Error,
    },
    /// The kernel reported an error.
    #[error("cannot listen on {address}: {cause}{}", help(.cause))]
    Bind {
        /// The configured address.
        address: BindAddress,
        /// Error of the system.
        cause: io::Error,
    },
    /// Another kind of file is at the socket's path.
    #[error(
        "cannot listen on unix:{}: the file there is not a socket\n  help: remove it or choose another path", .0.display()
    )]
    NotASocket(PathBuf),
    /// Another server is listening on the socket.
    #[error(
        "cannot listen on unix:{}: another server is listening there\n  help: stop it or choose another path", .0.display()
    )]
    InUse(PathBuf),
}

fn help(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  help: find the server that uses this port with ss -ltnp, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  help: use the address of an interface, or \"[::]:PORT\" for every interface"
        }
        io::ErrorKind::PermissionDenied => {
            "\n  help: a port below 1024 needs CAP_NET_BIND_SERVICE, a Unix socket needs a writable directory"
        }
        io::ErrorKind::NotFound => "\n  help: create the directory of the socket first",
        _ => "",
    }
}
