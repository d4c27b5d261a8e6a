//! The loop that accepts connections, and the drain that ends them.
//!
//! A connection is accepted only when there is room for it or for its waiting, so that what is too much waits in the
//! kernel's queue and costs nothing. An error of accept never ends the loop.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::BoxError;
use super::activity::Activity;
use super::connection::Server;
use super::limits::Limits;
use super::listener::{Listener, Socket};
use super::outgoing::Outgoing;
use super::places::Places;
use crate::fairness::Requester;
use crate::metrics::Metrics;
use crate::sync::LogThrottle;

/// Time for a shortage of files or memory to pass; far below any client's connect timeout of 5 s.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections of all `listeners` with `service` until `shutdown` is ready, then drains.
///
/// The limits hold for all of them together, as do `places`. When they change, the number of connections and the time of the drain are
/// new at once; what is open stays open. The drain closes the listeners, tells each connection to
/// end after the responses that are in flight, waits for them as long as the limits say and cuts the
/// rest. Dropping the future cuts every connection at once.
pub async fn serve<S, R, B, F>(
    listeners: Vec<Listener>,
    tls: Option<TlsAcceptor>,
    mut limits: watch::Receiver<Limits>,
    metrics: &Metrics,
    places: &Places,
    service: S,
    shutdown: F,
) where
    S: Fn(Requester, Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    F: Future<Output = ()>,
{
    let first = limits.borrow_and_update().clone();
    let counted = &metrics.connections;
    let server =
        Arc::new(Server { tls, http: first.builder(), limits: first, outgoing: Outgoing::new(metrics), service });
    let (drain, draining) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut listeners = Turns { listeners, next: 0 };
    let (errors, crowded) = (LogThrottle::default(), LogThrottle::default());
    let mut shutdown = pin!(shutdown);
    // The connection that was accepted last, for which there may be no room yet.
    let mut at_the_door = None;
    loop {
        let admitted = async {
            let address = match &at_the_door {
                Some((_, address)) => *address,
                None => at_the_door.insert(listeners.accept_next(&errors).await).1,
            };
            places.admit(address).await
        };
        tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            Ok(()) = limits.changed() => places.adjust(&limits.borrow_and_update()),
            Some(ended) = connections.join_next() => report(ended),
            place = admitted => {
                let Some((socket, address)) = at_the_door.take() else { continue };
                let Some(place) = place else {
                    report_crowd(&crowded, address);
                    continue;
                };
                let (server, draining) = (Arc::clone(&server), draining.clone());
                let activity = Activity::new(Instant::now(), counted);
                connections.spawn(async move {
                    if let Err(error) = server.connection(socket, activity, (place, address), draining).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
        }
    }
    drop(listeners);
    drain.send_replace(true);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let limit = limits.borrow().drain;
    if timeout(limit, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping with responses unfinished after {limit:?}");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        // The panic itself is in the log, once for each place and interval.
        tracing::debug!(%error, "a connection's task failed");
    }
}

fn report_crowd(lines: &LogThrottle<()>, address: Option<IpAddr>) {
    let Some(more) = lines.admit(()) else { return };
    let address = address.map(tracing::field::display);
    tracing::warn!(
        address,
        "closing connections of a client that has as many as it may, and as many that wait{more}\n  help: if it is \
         a proxy, name it in trusted_proxies; if many machines share the address, raise max_connections_per_client"
    );
}

/// Listeners that are accepted from in turn, so that a busy one does not hide the others.
struct Turns {
    listeners: Vec<Listener>,
    /// The one that is asked first.
    next: usize,
}

impl Turns {
    /// The next connection of any of them. Cancel safe.
    async fn accept(&mut self) -> io::Result<(Socket, Option<IpAddr>)> {
        poll_fn(|cx| {
            for turn in 0..self.listeners.len() {
                let index = (self.next + turn) % self.listeners.len();
                if let Poll::Ready(accepted) = self.listeners[index].poll_accept(cx) {
                    self.next = index + 1;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next connection, whatever errors come before it. Cancel safe.
    async fn accept_next(&mut self, errors: &LogThrottle<Option<Errno>>) -> (Socket, Option<IpAddr>) {
        loop {
            let error = match self.accept().await {
                Ok(socket) => return socket,
                Err(error) => error,
            };
            let kind = Errno::from_io_error(&error);
            if let Some(more) = errors.admit(kind) {
                tracing::warn!("cannot accept a connection{more}: {error}{}", help(kind));
            }
            if is_shortage(&error) {
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether an error of accept will come again at once, rather than being that of one connection.
fn is_shortage(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn help(kind: Option<Errno>) -> &'static str {
    match kind {
        Some(Errno::MFILE) => {
            "\n  help: raise the limit of open files (LimitNOFILE= in the unit) or lower max_connections"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shortage_is_waited_for() {
        assert!(is_shortage(&Errno::MFILE.into()));
        assert!(is_shortage(&Errno::NOBUFS.into()));
        assert!(!is_shortage(&Errno::CONNABORTED.into()));
        assert!(!is_shortage(&Errno::INTR.into()));
    }
}
