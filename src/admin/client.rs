//! The client of the admin socket: finds the server that runs, and asks it.

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

use super::MAX_TIME;
use crate::config::default_admin_sockets;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Beyond the server's own bound, so that its answer is what is seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reason why no server can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no server answers at {}\n  help: is it running? try: systemctl status harmonia; --admin-socket names another socket",
        listed(.tried)
    )]
    NoServer {
        /// The sockets that were tried.
        tried: Vec<PathBuf>,
    },
    /// The socket is closed to this user.
    #[error(
        "cannot ask the server at {}: {cause}\n  help: only root and the server's own user may; run this by sudo",
        path.display()
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// The server has broken off, or speaks another language.
    #[error("the server at {} does not answer: {cause}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The reason, as a text.
        cause: String,
    },
    /// The server has answered that it does not do this.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
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

/// A server that has answered at its admin socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Finds the server that runs: at `configured`, else where a user's and the system's own are by default.
    pub async fn find(configured: Option<&Path>) -> Result<Self, ClientError> {
        let candidates = configured.map_or_else(default_admin_sockets, |path| vec![path.to_owned()]);
        let mut closed = None;
        for path in &candidates {
            match UnixStream::connect(path).await {
                Ok(_) => return Ok(Self { path: path.clone() }),
                Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                    closed.get_or_insert(ClientError::NotAllowed { path: path.clone(), cause });
                }
                Err(_) => {}
            }
        }
        Err(closed.unwrap_or(ClientError::NoServer { tried: candidates }))
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The answer to a question, e.g. about `/cache`.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.parsed(&self.ask(Method::GET, target, Bytes::new()).await?)
    }

    /// The answer to a question as the server has sent it: JSON.
    pub async fn get_text(&self, target: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, target, Bytes::new()).await
    }

    /// Has the server do something with `value`.
    pub async fn post<T: DeserializeOwned>(&self, target: &str, value: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(value).map_err(|cause| self.failed(&cause))?;
        self.parsed(&self.ask(Method::POST, target, body.into()).await?)
    }

    fn parsed<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(text).map_err(|cause| self.failed(&format_args!("another release? {cause}")))
    }

    fn failed(&self, cause: &dyn Display) -> ClientError {
        ClientError::Failed { path: self.path.clone(), cause: cause.to_string() }
    }

    async fn ask(&self, method: Method, target: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let answered = timeout(MAX_TIME + PATIENCE, self.exchange(method, target, body)).await;
        let (status, text) = answered.map_err(|_| self.failed(&"it takes too long"))??;
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
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
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
