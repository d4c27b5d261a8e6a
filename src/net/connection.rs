//! One connection, from the handshake to its end.
//!
//! HTTP/1.1 and HTTP/2 by prior knowledge or ALPN, told apart by their first bytes. The deadlines
//! are looked at by a single timer, which asks the connection's [`Activity`] when it fires: nothing
//! is armed or disarmed per request. The same [`Activity`] tells when others need the connection's place.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::BoxError;
use super::activity::{Activity, Farewell, Verdict};
use super::forwarded::behind;
use super::limits::Limits;
use super::listener::Socket;
use super::outgoing::{Outgoing, OutgoingBody};
use super::places::Place;
use super::reading::Reading;
use super::watched::WatchedSocket;
use crate::fairness::ClientId;
use crate::fairness::{Holder, Requester};

/// How long an idle client has to take note of the end: a round trip of GOAWAY and PING on HTTP/2.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended otherwise than by its client or by HTTP's rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("it was not its client's turn within {0:?}")]
    NoPlace(Duration),
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the TLS handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    #[error("no request came within {0:?}")]
    NoRequest(Duration),
    #[error("the client took nothing of its response for {0:?}")]
    Stalled(Duration),
    #[error("it was idle or slow while others waited for its place")]
    Reclaimed,
    #[error(transparent)]
    Http(BoxError),
}

/// What all connections have in common.
pub(super) struct Server<S> {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) http: Builder<TokioExecutor>,
    pub(super) outgoing: Outgoing,
    pub(super) service: S,
}

impl<S, R, B> Server<S>
where
    S: Fn(Requester, Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves `socket`, when it has its `place`, until its client leaves, a deadline passes, others need the place or, once
    /// `drain` is true, nothing is in flight.
    ///
    /// Dropping it cuts the connection.
    pub(super) async fn connection(
        &self,
        socket: Socket,
        activity: Arc<Activity>,
        (place, address): (Place, Option<IpAddr>),
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError> {
        let (client, limit) = (place.client(), self.limits.place);
        let place = tokio::select! {
            biased;
            permit = place.permit() => permit,
            _ = drain.wait_for(|drain| *drain) => return Ok(()),
            () = sleep(limit) => return Err(ConnectionError::NoPlace(limit)),
        };
        let began = Instant::now();
        activity.serve();
        let holder: Arc<dyn Holder> = Arc::clone(&activity) as _;
        place.set_holder(Arc::downgrade(&holder));
        let socket = WatchedSocket::new(socket, Arc::clone(&activity));
        let Some(tls) = &self.tls else {
            // Boxed, as below: of the two that might be, each connection has the memory of one.
            return Box::pin(self.http(socket, (client, address), &activity, drain)).await;
        };
        let limit = self.limits.handshake;
        let stream = tokio::select! {
            handshake = timeout_at(began + limit, tls.accept(socket)) => handshake,
            _ = activity.farewell() => return Err(ConnectionError::Reclaimed),
        };
        let stream =
            stream.map_err(|_| ConnectionError::HandshakeTimeout(limit))?.map_err(ConnectionError::Handshake)?;
        Box::pin(self.http(stream, (client, address), &activity, drain)).await
    }

    async fn http<I>(
        &self,
        stream: I,
        (peer, address): (ClientId, Option<IpAddr>),
        activity: &Arc<Activity>,
        drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (client, address) = behind(peer, address, request.headers());
            let reading = Reading::begin(activity, request.version() == Version::HTTP_2);
            let reader =
                Requester::new(client, Arc::clone(&reading) as _).with_address(address, peer == ClientId::Proxy);
            let response = (self.service)(reader, request);
            let memory = self.outgoing.clone();
            async move {
                let response = response.await;
                Ok::<_, Infallible>(response.map(|body| OutgoingBody::new(body, client, memory, reading)))
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        attend(pin!(connection), activity, &self.limits, drain).await
    }
}

/// Polls `connection` to its end or to that of its time.
async fn attend<C>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    limits: &Limits,
    mut drain: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    C: GracefulConnection<Error = BoxError>,
{
    let mut timer = pin!(sleep_until(Instant::now()));
    let (mut closing, mut leaving) = (false, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => return result.map_err(ConnectionError::Http),
            _ = drain.wait_for(|drain| *drain), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            farewell = activity.farewell() => match farewell {
                Farewell::Cut => return Err(ConnectionError::Reclaimed),
                Farewell::Leave => {
                    (closing, leaving) = (true, true);
                    connection.as_mut().graceful_shutdown();
                    timer.as_mut().reset(Instant::now() + FAREWELL);
                }
            },
            () = timer.as_mut() => {
                let now = Instant::now();
                match activity.verdict(limits, now) {
                    // A request may have come before the client took note.
                    Verdict::Wait(_) if leaving && !activity.is_busy() => return Err(ConnectionError::Reclaimed),
                    Verdict::Wait(until) => timer.as_mut().reset(until),
                    Verdict::Idle if closing => return Ok(()),
                    Verdict::Idle => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                        timer.as_mut().reset(now + FAREWELL);
                    }
                    Verdict::NoRequest => {
                        return Err(ConnectionError::NoRequest(limits.first_request));
                    }
                    Verdict::Stalled => return Err(ConnectionError::Stalled(limits.stall)),
                }
            }
        }
    }
}
