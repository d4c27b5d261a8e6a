//! Serves one connection, from its handshake to its end.
//!
//! HTTP/1.1 and HTTP/2 (by prior knowledge or ALPN) are told apart by their first bytes. A single timer checks the deadlines
//! with the connection's [`Activity`] when it fires, so nothing is armed or disarmed per request. The [`Activity`] also tells
//! when the connection has to end because others wait.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::connection_limiter::Admission;
use super::deadlines::{Activity, Deadline, EndRequest};
use super::forwarded::client_of;
use super::limits::Limits;
use super::listener::Socket;
use super::read_progress::ReadProgress;
use super::request_body::RequestBody;
use super::send_budget::{BudgetedBody, SendBudget};
use super::tls::TlsServer;
use super::tracked_io::TrackedSocket;
use crate::fairness::{ClientId, Holder, Requester};

/// Time for an idle client to react to a graceful shutdown: a round trip of GOAWAY and PING on HTTP/2.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// Reason for which a connection was ended by neither its client nor the rules of HTTP.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("queued for {0:?}: too many connections are being served")]
    QueueTimeout(Duration),
    #[error("TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("TLS handshake timed out after {0:?}")]
    HandshakeTimeout(Duration),
    #[error("no request within {0:?}")]
    NoRequest(Duration),
    #[error("client read nothing of its response for {0:?}")]
    Stalled(Duration),
    #[error("reclaimed for waiting clients: it was idle or slow")]
    Reclaimed,
    #[error(transparent)]
    Http(BoxError),
}

/// Error of a response body, as hyper takes it.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// State shared by all connections.
pub(super) struct Server<S> {
    pub(super) tls: Option<Arc<TlsServer>>,
    pub(super) limits: Limits,
    pub(super) http: Builder<TokioExecutor>,
    pub(super) send_budget: SendBudget,
    pub(super) service: S,
}

/// The other end of a connection.
struct Peer {
    client: ClientId,
    address: Option<IpAddr>,
    /// Name in its client certificate, if it has one.
    certificate_name: Option<Arc<str>>,
}

impl<S, R, B> Server<S>
where
    S: Fn(Requester, Request<RequestBody>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves `socket`, once it is admitted, until its client disconnects, a deadline passes, its permit is reclaimed or, once
    /// `drain` is true, nothing is in flight.
    ///
    /// Dropping the future cuts the connection.
    pub(super) async fn connection(
        &self,
        socket: Socket,
        activity: Arc<Activity>,
        (admission, address): (Admission, Option<IpAddr>),
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError> {
        let (client, limit) = (admission.client(), self.limits.queue_timeout);
        let permit = tokio::select! {
            biased;
            permit = admission.permit() => permit,
            _ = drain.wait_for(|drain| *drain) => return Ok(()),
            () = sleep(limit) => return Err(ConnectionError::QueueTimeout(limit)),
        };
        let started = Instant::now();
        activity.served();
        let holder: Arc<dyn Holder> = Arc::clone(&activity) as _;
        permit.set_holder(Arc::downgrade(&holder));
        let socket = TrackedSocket::new(socket, Arc::clone(&activity));
        let Some(tls) = &self.tls else {
            // Boxed, as below, so that each connection takes the memory of only one of the two futures.
            return Box::pin(self.http(socket, Peer { client, address, certificate_name: None }, &activity, drain))
                .await;
        };
        let limit = self.limits.handshake;
        let stream = tokio::select! {
            handshake = timeout_at(started + limit, tls.accept(socket, (address, client == ClientId::Proxy))) => handshake,
            _ = activity.end_requested() => return Err(ConnectionError::Reclaimed),
        };
        let (stream, certificate_name) =
            stream.map_err(|_| ConnectionError::HandshakeTimeout(limit))?.map_err(ConnectionError::Handshake)?;
        let peer = Peer { client, address, certificate_name };
        Box::pin(self.http(stream, peer, &activity, drain)).await
    }

    async fn http<I>(
        &self,
        stream: I,
        peer: Peer,
        activity: &Arc<Activity>,
        drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (client, address) = client_of(peer.client, peer.address, request.headers());
            let progress = ReadProgress::start(activity, request.version() == Version::HTTP_2);
            let requester = Requester::new(client, Arc::clone(&progress) as _)
                .with_address(address, peer.client == ClientId::Proxy)
                .with_certificate_name(peer.certificate_name.clone());
            let upload = (request.method() == Method::PUT).then(|| Arc::clone(&progress));
            let response = (self.service)(requester, request.map(|body| RequestBody::new(body, upload)));
            let budget = self.send_budget.clone();
            async move {
                let response = response.await;
                Ok::<_, Infallible>(response.map(|body| BudgetedBody::new(body, client, budget, progress)))
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        drive(pin!(connection), activity, &self.limits, drain).await
    }
}

/// Polls `connection` until it ends or a deadline passes.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    limits: &Limits,
    mut drain: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    C: GracefulConnection<Error = BoxError>,
{
    let mut timer = pin!(sleep_until(Instant::now()));
    let (mut is_closing, mut is_reclaimed) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => return result.map_err(ConnectionError::Http),
            _ = drain.wait_for(|drain| *drain), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            request = activity.end_requested() => match request {
                EndRequest::Abort => return Err(ConnectionError::Reclaimed),
                EndRequest::Graceful => {
                    (is_closing, is_reclaimed) = (true, true);
                    connection.as_mut().graceful_shutdown();
                    timer.as_mut().reset(Instant::now() + GOAWAY_GRACE);
                }
            },
            () = timer.as_mut() => {
                let now = Instant::now();
                match activity.deadline(limits, now) {
                    // Not if a request came before the client noticed the shutdown.
                    Deadline::Pending(_) if is_reclaimed && !activity.is_busy() => return Err(ConnectionError::Reclaimed),
                    Deadline::Pending(until) => timer.as_mut().reset(until),
                    Deadline::Idle if is_closing => return Ok(()),
                    Deadline::Idle => {
                        is_closing = true;
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(now + GOAWAY_GRACE);
                    }
                    Deadline::NoRequest => {
                        return Err(ConnectionError::NoRequest(limits.first_request));
                    }
                    Deadline::Stalled => return Err(ConnectionError::Stalled(limits.stall)),
                }
            }
        }
    }
}
