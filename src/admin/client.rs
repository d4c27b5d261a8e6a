//! The client of the admin socket: finds the running server and sends it requests.

use std::fmt::{Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::limits::MAX_TIME;
use crate::config::default_admin_sockets;

/// Limit on a response, in bytes.
const MAX_RESPONSE: usize = 64 << 20;
/// Added to the server's limit, so that its response arrives before the client times out.
const GRACE: Duration = Duration::from_secs(5);

/// A reason why a request to the server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No server listens.
    #[error(
        "no harmonia server is listening on {}\n  help: check systemctl status harmonia, or name another socket with --admin-socket",
        listed(.tried)
    )]
    NoServer {
        /// The sockets that were tried.
        tried: Vec<PathBuf>,
    },
    /// Connection refused to this user.
    #[error(
        "cannot connect to the server at {}: {cause}\n  help: run this command as root or as the server's user (sudo)",
        path.display()
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// The connection broke, or the response cannot be parsed.
    #[error("request to the server at {} failed: {cause}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// The server responded with an error.
    #[error("{message}")]
    Refused {
        /// The status of its response.
        status: StatusCode,
        /// Its reason.
        message: String,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    let mut text = String::new();
    for (nth, path) in paths.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{}", if nth == 0 { "" } else { " or " }, path.display());
    }
    text
}

/// A client of a server that listens on its admin socket.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    path: PathBuf,
}

impl Client {
    /// Finds the running server: at `configured`, or else at the default sockets of the user and the system.
    pub(crate) async fn find(configured: Option<&Path>) -> Result<Self, ClientError> {
        let candidates = configured.map_or_else(default_admin_sockets, |path| vec![path.to_owned()]);
        let mut denied = None;
        for path in &candidates {
            match UnixStream::connect(path).await {
                Ok(_) => return Ok(Self { path: path.clone() }),
                Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                    denied.get_or_insert(ClientError::NotAllowed { path: path.clone(), cause });
                }
                Err(_) => {}
            }
        }
        Err(denied.unwrap_or(ClientError::NoServer { tried: candidates }))
    }

    /// Returns the path of the socket.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a GET request, for example for `/cache`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.parsed(&self.send(Method::GET, target, Bytes::new()).await?)
    }

    /// Sends a POST request with `value` as JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        value: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(value).map_err(|cause| self.failed(&cause))?;
        self.parsed(&self.send(Method::POST, target, body.into()).await?)
    }

    fn parsed<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(text)
            .map_err(|cause| self.failed(&format_args!("unexpected response, perhaps of another release: {cause}")))
    }

    fn failed(&self, cause: &dyn Display) -> ClientError {
        ClientError::Failed { path: self.path.clone(), cause: cause.to_string() }
    }

    async fn send(&self, method: Method, target: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let answered = timeout(MAX_TIME + GRACE, self.exchange(method, target, body)).await;
        let (status, text) = answered.map_err(|_| self.failed(&"timed out"))??;
        if status.is_success() {
            return Ok(text);
        }
        let error = serde_json::from_slice::<serde_json::Value>(&text);
        let message = error.ok().and_then(|error| error["error"].as_str().map(str::to_owned));
        Err(ClientError::Refused { status, message: message.unwrap_or_else(|| status.to_string()) })
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|cause| match cause.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path: self.path.clone(), cause },
            _ => ClientError::NoServer { tried: vec![self.path.clone()] },
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|cause| self.failed(&cause))?;
        let request = Request::builder().method(method).uri(target).header(HOST, "harmonia");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.map_err(|cause| self.failed(&cause))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|cause| self.failed(&cause))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await;
            Ok((status, body.map_err(|cause| self.failed(&cause))?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection may end before its last bytes are read.
            _ = connection => exchange.await,
        }
    }
}
