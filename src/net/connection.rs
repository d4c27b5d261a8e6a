//! One connection, from the handshake to its end.
//!
//! HTTP/1.1 and HTTP/2 by prior knowledge or ALPN, told apart by their first bytes. The deadlines
//! are looked at by a single timer, which asks the connection's [`Activity`] when it fires: nothing
//! is armed or disarmed per request.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::BoxError;
use super::activity::{Activity, Verdict};
use super::guests::Guest;
use super::limits::Limits;
use super::listener::Socket;
use super::outgoing::{Outgoing, OutgoingBody};
use super::watched::{WatchedBody, WatchedSocket};
use crate::client::Client;

/// How long an idle client has to take note of the end: a round trip of GOAWAY and PING on HTTP/2.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended otherwise than by its client or by HTTP's rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("its client's other connections did not end within {0:?}")]
    NoSeat(Duration),
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the TLS handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    #[error("no request came within {0:?}")]
    NoRequest(Duration),
    #[error("the client took nothing of its response for {0:?}")]
    Stalled(Duration),
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
    S: Fn(Client, Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Serves `socket`, when it is `guest`'s turn, until its client leaves, a deadline passes or, once `drain` is true,
    /// nothing is in flight.
    ///
    /// Dropping it cuts the connection.
    pub(super) async fn connection(
        &self,
        socket: Socket,
        guest: Guest,
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError> {
        let limit = self.limits.seat;
        let _seat = tokio::select! {
            biased;
            seat = guest.seat() => seat,
            _ = drain.wait_for(|drain| *drain) => return Ok(()),
            () = sleep(limit) => return Err(ConnectionError::NoSeat(limit)),
        };
        let began = Instant::now();
        let activity = Activity::new(began);
        let socket = WatchedSocket::new(socket, Arc::clone(&activity));
        let Some(tls) = &self.tls else {
            return self.http(socket, guest.client(), &activity, drain).await;
        };
        let limit = self.limits.handshake;
        let handshake = timeout_at(began + limit, tls.accept(socket)).await;
        let stream =
            handshake.map_err(|_| ConnectionError::HandshakeTimeout(limit))?.map_err(ConnectionError::Handshake)?;
        self.http(stream, guest.client(), &activity, drain).await
    }

    async fn http<I>(
        &self,
        stream: I,
        client: Client,
        activity: &Arc<Activity>,
        drain: watch::Receiver<bool>,
    ) -> Result<(), ConnectionError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| {
            let in_flight = activity.begin();
            let response = (self.service)(client, request);
            let memory = self.outgoing.clone();
            async move {
                let response = response.await;
                let outgoing = |body| OutgoingBody::new(body, client, memory);
                Ok::<_, Infallible>(response.map(|body| WatchedBody::new(outgoing(body), in_flight)))
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
    let mut closing = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => return result.map_err(ConnectionError::Http),
            _ = drain.wait_for(|drain| *drain), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                match activity.verdict(limits, now) {
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
