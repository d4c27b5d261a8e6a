//! One GET of a key set, by HTTP/1.1.
//!
//! The server is not trusted with anything but the keys: time and size are bounded, and a redirect is an error that names its
//! target, since whoever can redirect could otherwise choose the keys.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::ServerName;

use super::key_set::MAX_KEY_SET;
use super::url::JwksUrl;
use crate::client_tls::{client_config, system_roots};

/// Upper bound of the time for all of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Upper bound of the time for a connection to one of the host's addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of the host's addresses that are tried.
const MAX_ADDRESSES: usize = 4;

/// Upper bound of the response's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Length of a redirect's target in messages, in characters.
const MAX_TARGET: usize = 200;

/// Reason for which a key set was not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no complete response within {} seconds", TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot resolve its host: {0}")]
    Resolve(io::Error),
    #[error("its host is another machine: http is for this one only")]
    NotLoopback,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no certificate authorities of the system: {0}")]
    NoRoots(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("HTTP: {0}")]
    Http(String),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("a redirect to {0}, which is not followed: if that is right, set jwks_url to it")]
    Redirect(String),
    #[error("longer than {MAX_KEY_SET} bytes")]
    TooLong,
}

/// Fetches a document. Over https the server's certificate must be of an authority that the system trusts, or that one in
/// the file that `NIX_SSL_CERT_FILE` or `SSL_CERT_FILE` names.
pub(super) async fn fetch(url: &JwksUrl) -> Result<Vec<u8>, FetchError> {
    let roots = if url.is_tls() {
        let roots = tokio::task::spawn_blocking(system_roots).await.map_err(|_| FetchError::Timeout)?;
        Some(roots.map_err(FetchError::NoRoots)?)
    } else {
        None
    };
    fetch_trusting(url, roots).await
}

/// Fetches a document, over https if there are authorities to trust.
pub(super) async fn fetch_trusting(url: &JwksUrl, roots: Option<RootCertStore>) -> Result<Vec<u8>, FetchError> {
    let fetched = timeout(TIMEOUT, async {
        let tcp = connect(url).await?;
        match roots {
            Some(roots) => request(handshake(url, roots, tcp).await?, url).await,
            None => request(tcp, url).await,
        }
    });
    fetched.await.unwrap_or(Err(FetchError::Timeout))
}

async fn connect(url: &JwksUrl) -> Result<TcpStream, FetchError> {
    let addresses = lookup_host((url.host(), url.port())).await.map_err(FetchError::Resolve)?;
    // A resolver may have its own idea of localhost.
    let allowed = addresses.filter(|address| url.is_tls() || address.ip().is_loopback());
    let mut error = FetchError::NotLoopback;
    for address in allowed.take(MAX_ADDRESSES) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(cause)) => error = FetchError::Connect(cause),
            Err(_) => error = FetchError::Connect(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(error)
}

async fn handshake(
    url: &JwksUrl,
    roots: RootCertStore,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, FetchError> {
    let tls = |error: &dyn std::fmt::Display| FetchError::Tls(error.to_string());
    let config = client_config(roots).map_err(|error| tls(&error))?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| tls(&error))?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| tls(&error))
}

async fn request<S>(stream: S, url: &JwksUrl) -> Result<Vec<u8>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(http)?;
    let response = async {
        let request = Request::get(url.target())
            .header(header::HOST, url.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("harmonia/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| FetchError::Http(error.to_string()))?;
        read(sender.send_request(request).await.map_err(http)?).await
    };
    // Errors of the connection arrive through the response.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        document = response => document,
        () = drive => Err(FetchError::Timeout),
    }
}

async fn read(response: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
    let status = response.status();
    if status.is_redirection() {
        let target = response.headers().get(header::LOCATION).map(|target| String::from_utf8_lossy(target.as_bytes()));
        return Err(FetchError::Redirect(target.unwrap_or_default().chars().take(MAX_TARGET).collect()));
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    let mut body = response.into_body();
    let mut document = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(http)?.into_data() else { continue };
        if document.len() + data.len() > MAX_KEY_SET {
            return Err(FetchError::TooLong);
        }
        document.extend_from_slice(&data);
    }
    Ok(document)
}

/// Returns an error of hyper with its cause, which its own text lacks.
#[allow(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn http(error: hyper::Error) -> FetchError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    FetchError::Http(format!("{error}{cause}"))
}
