//! HTTP/1.1 client of the object store: connections that are used again, TLS by ring, and bounded responses.
//!
//! `object_store` signs requests and reads responses; this sends them. A request that finds its connection closed goes on a
//! new one if nothing of it was sent. The server is not trusted: heads, bodies that are read whole, and pauses are bounded.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::ServerName;

use super::answer::{Answer, note};
use super::http_body::{PooledBody, Sender, UploadBody};
use super::upload_rate::UploadRate;
use crate::client_tls::client_config;
use crate::sync::Mutex;

/// Upper bound of the time for a connection to one of the server's addresses, and for the handshake on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of the server's addresses that are tried.
const MAX_ADDRESSES: usize = 4;
/// Connections that are kept for later. Servers close idle ones after some 20 seconds.
const MAX_IDLE: usize = 32;
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Upper bound of a response's head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Upper bound of the bodies that are read whole, in bytes: errors, and answers with up to a thousand names.
const MAX_ANSWER: usize = 8 << 20;

/// Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    /// `None` if there is nothing but http.
    tls: Option<TlsConnector>,
    rate: Option<Arc<UploadRate>>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    /// Scheme and authority.
    server: Server,
    sender: Sender,
    since: Instant,
}

/// Scheme and authority of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    is_tls: bool,
    host: String,
    port: u16,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("idle", &self.idle.lock().len()).finish_non_exhaustive()
    }
}

impl Http {
    /// Creates a client that trusts these authorities, and sends uploads at this rate.
    pub(super) fn new(roots: Option<RootCertStore>, rate: Option<UploadRate>) -> Result<Self, String> {
        let tls = roots.map(client_config).transpose().map_err(|error| error.to_string())?;
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        Ok(Self(Arc::new(Shared { tls, rate: rate.map(Arc::new), idle: Mutex::new(Vec::new()) })))
    }

    /// Sends a request, and waits for the head of the response.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let server = Server::of(request.uri()).ok_or_else(|| request_error("no URL of http or https"))?;
        let (method, is_list) = (request.method().clone(), is_list(request.uri()));
        let mut request = prepare(request, self.0.rate.clone())?;
        while let Some(mut sender) = self.take_idle(&server) {
            match sender.try_send_request(request).await {
                Ok(response) => return self.response(response, server, sender, &method, is_list).await,
                // The server has closed it meanwhile.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(sent_error(error.into_error())),
                },
            }
        }
        let mut sender = self.connect(&server).await?;
        let response = sender.send_request(request).await.map_err(sent_error)?;
        self.response(response, server, sender, &method, is_list).await
    }

    /// Hands out an object as it comes, and reads everything else whole.
    async fn response(
        &self,
        response: Response<Incoming>,
        server: Server,
        sender: Sender,
        method: &Method,
        is_list: bool,
    ) -> Result<HttpResponse, HttpError> {
        let (head, body) = response.into_parts();
        let client = self.clone();
        let body = PooledBody::new(body, sender, Box::new(move |sender| client.keep(server, sender)));
        if method == Method::GET && head.status.is_success() && !is_list {
            return Ok(Response::from_parts(head, HttpResponseBody::new(body)));
        }
        let read = Limited::new(body, MAX_ANSWER).collect().await;
        let body = read.map_err(|error| match error.downcast::<HttpError>() {
            Ok(error) => *error,
            Err(error) => HttpError::new(HttpErrorKind::Decode, io::Error::other(error)),
        })?;
        let body = body.to_bytes();
        let answer = Answer::parse(head.status.as_u16(), &body);
        // The end of an upload in parts may fail after its head was sent.
        if !head.status.is_success() || (method == Method::POST && answer.code.is_some()) {
            note(answer);
        }
        Ok(Response::from_parts(head, body.into()))
    }

    fn take_idle(&self, server: &Server) -> Option<Sender> {
        let mut idle = self.0.idle.lock();
        idle.retain(|kept| kept.since.elapsed() < IDLE_TIME && !kept.sender.is_closed());
        let last = idle.iter().rposition(|kept| kept.server == *server)?;
        Some(idle.swap_remove(last).sender)
    }

    fn keep(&self, server: Server, sender: Sender) {
        let mut idle = self.0.idle.lock();
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(Idle { server, sender, since: Instant::now() });
        }
    }

    async fn connect(&self, server: &Server) -> Result<Sender, HttpError> {
        let connect = |cause: io::Error| HttpError::new(HttpErrorKind::Connect, cause);
        let addresses = timeout(CONNECT_TIMEOUT, lookup_host((server.host.as_str(), server.port))).await;
        let addresses = addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(connect)?;
        let mut error = io::Error::other("its host has no address");
        for address in addresses.take(MAX_ADDRESSES) {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // A request is head and body, in two writes.
                    tcp.set_nodelay(true).map_err(connect)?;
                    return self.handshake(server, tcp).await;
                }
                Ok(Err(cause)) => error = cause,
                Err(_) => error = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(connect(error))
    }

    async fn handshake(&self, server: &Server, tcp: TcpStream) -> Result<Sender, HttpError> {
        if !server.is_tls {
            return http(tcp).await;
        }
        let tls = self.0.tls.as_ref().ok_or_else(|| request_error("no certificate authorities for https"))?;
        let name =
            ServerName::try_from(server.host.clone()).map_err(|cause| HttpError::new(HttpErrorKind::Request, cause))?;
        let stream = timeout(CONNECT_TIMEOUT, tls.connect(name, tcp)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        http(stream.map_err(|cause| HttpError::new(HttpErrorKind::Connect, cause))?).await
    }
}

impl Server {
    fn of(url: &Uri) -> Option<Self> {
        let is_tls = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        Some(Self { is_tls, host, port: url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }) })
    }
}

/// Returns whether a GET answers with names instead of an object.
fn is_list(url: &Uri) -> bool {
    url.query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2" || part == "uploads="))
}

/// Replaces the URL by the path that goes into the request line, and adds the header that the signature covers.
fn prepare(request: HttpRequest, rate: Option<Arc<UploadRate>>) -> Result<Request<UploadBody>, HttpError> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(authority).map_err(|cause| HttpError::new(HttpErrorKind::Request, cause))?;
    head.headers.insert(HOST, host);
    head.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("harmonia/", env!("CARGO_PKG_VERSION"))));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse::<Uri>().map_err(|cause| HttpError::new(HttpErrorKind::Request, cause))?;
    Ok(Request::from_parts(head, UploadBody::new(body, rate)))
}

async fn http<S>(stream: S) -> Result<Sender, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|cause| HttpError::new(HttpErrorKind::Connect, cause))?;
    // Ends when its sender is gone. Errors arrive through responses.
    tokio::spawn(connection);
    Ok(sender)
}

fn request_error(text: &'static str) -> HttpError {
    HttpError::new(HttpErrorKind::Request, io::Error::other(text))
}

/// Converts an error after something may have been sent.
fn sent_error(error: hyper::Error) -> HttpError {
    let kind = if error.is_timeout() { HttpErrorKind::Timeout } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Http {
    // As the macro `async_trait` writes it.
    fn call<'client, 'call>(
        &'client self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'client: 'call,
        Self: 'call,
    {
        Box::pin(self.send(request))
    }
}
