//! Binds and serves the socket; decides who may connect, how many at a time, and for how long.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::limits::MAX_TIME;
use super::requests::Server;
use crate::config::SocketMode;
use crate::net::{SocketFile, bind_unix};
use crate::sync::LogThrottle;

/// Limit on connections; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// Limit on the wait for a request's head, so that idle connections do not block others for long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit on a request's head and on buffered bytes: far more than a store path.
const MAX_HEAD: usize = 16 << 10;
/// Pause after a failed accept, for a shortage of descriptors to pass.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(500);
/// User ID that the kernel reports for users outside of this process's user namespace (user_namespaces(7)). A process with this
/// ID cannot tell them from its own user.
const OVERFLOW_USER: u32 = 65534;

/// A bound admin socket.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    own_user: u32,
}

/// Binds the socket and creates its directory if that is missing. Dropping the second value removes the file.
///
/// Replaces the socket of a server that is gone. If another server listens on it, or it cannot be bound, logs a warning and
/// returns `None`: the cache works without it.
pub(crate) async fn open(path: &Path) -> Option<(AdminSocket, SocketFile)> {
    if let Some(directory) = path.parent() {
        // It usually exists. A failure shows when the socket is bound.
        let _ = DirBuilder::new().mode(0o700).create(directory);
    }
    match bind_unix(path, SocketMode::OWNER).await {
        Ok((listener, file)) => {
            let own_user = rustix::process::geteuid().as_raw();
            Some((AdminSocket { listener, own_user }, file))
        }
        Err(error) => {
            tracing::warn!("cannot open the admin socket, `harmonia status` will not work: {error}");
            None
        }
    }
}

impl AdminSocket {
    /// Serves requests. Never returns.
    pub(crate) async fn serve(&self, server: &Arc<Server>) {
        let (refused, errors) = (LogThrottle::default(), LogThrottle::default());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // A panic was logged already.
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        if let Some(user) = self.forbidden_user(&stream) {
                            if let Some(more) = refused.admit(()) {
                                tracing::warn!("refused user {user} on the admin socket{more}");
                            }
                            continue;
                        }
                        let server = Arc::clone(server);
                        connections.spawn(async move {
                            // Errors are the client's: it disconnected or sent no valid request.
                            let _ = timeout(MAX_TIME, serve_one(stream, server)).await;
                        });
                    }
                    Err(error) => {
                        if let Some(more) = errors.admit(()) {
                            tracing::warn!("cannot accept a connection on the admin socket{more}: {error}");
                        }
                        sleep(ACCEPT_BACKOFF).await;
                    }
                },
            }
        }
    }

    /// Returns the user ID of the peer if it may not connect.
    fn forbidden_user(&self, stream: &UnixStream) -> Option<u32> {
        let user = stream.peer_cred().map_or(OVERFLOW_USER, |peer| peer.uid());
        let may_connect = user == 0 || (user == self.own_user && user != OVERFLOW_USER);
        (!may_connect).then_some(user)
    }
}

/// Serves the one request of a connection.
async fn serve_one(stream: UnixStream, server: Arc<Server>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move { Ok::<Response<_>, std::convert::Infallible>(server.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    http.serve_connection(TokioIo::new(stream), service).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[tokio::test]
    async fn only_root_and_the_own_user_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("of its own/admin.sock");
        let (mut socket, file) = open(&path).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let (client, server) = UnixStream::pair().unwrap();
        assert_eq!(socket.forbidden_user(&server), None);
        // Another user's server: only root may ask it.
        socket.own_user += 1;
        let own = directory.path().metadata().unwrap().uid();
        assert_eq!(socket.forbidden_user(&server), Some(own).filter(|own| *own != 0));
        drop((client, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = open(&path).await;
        assert!(first.is_some());
        assert!(open(&path).await.is_none());
        assert!(path.exists());
    }
}
