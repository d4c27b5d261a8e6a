//! Accepts connections from all listeners, and drains them at the end.
//!
//! A connection is accepted only when it can be served or queued, so excess connections wait in the kernel's queue and cost
//! nothing. No error of accept ends the loop.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, Response};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{BoxError, Server};
use super::connection_limiter::ConnectionLimiter;
use super::deadlines::Activity;
use super::limits::Limits;
use super::listener::{Listener, Socket};
use super::request_body::RequestBody;
use super::send_budget::SendBudget;
use super::tls::TlsServer;
use crate::fairness::Requester;
use crate::metrics::Metrics;
use crate::sync::LogThrottle;

/// Delay after a shortage of descriptors or memory; far below clients' connect timeout of 5 s.
const SHORTAGE_DELAY: Duration = Duration::from_millis(100);

/// Serves the connections of all `listeners` with `service` until `shutdown` is ready, then drains.
///
/// The limits and the `limiter` apply to all listeners together. Changed limits on connections and on the drain take effect
/// at once, and open connections stay open. The drain closes the listeners, tells each connection to end after the responses
/// in flight, waits for them as long as the limits allow and cuts the rest. Dropping the future cuts every connection.
pub(crate) async fn serve<S, R, B, F>(
    listeners: Vec<Listener>,
    tls: Option<Arc<TlsServer>>,
    mut limits: watch::Receiver<Limits>,
    metrics: &Metrics,
    limiter: &ConnectionLimiter,
    service: S,
    shutdown: F,
) where
    S: Fn(Requester, Request<RequestBody>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    F: Future<Output = ()>,
{
    let first = limits.borrow_and_update().clone();
    let gauges = &metrics.connections;
    let server =
        Arc::new(Server { tls, http: first.builder(), limits: first, send_budget: SendBudget::new(metrics), service });
    let (drain, draining) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut listeners = ListenerSet { listeners, next: 0 };
    let (accept_errors, rejections) = (LogThrottle::default(), LogThrottle::default());
    let mut shutdown = pin!(shutdown);
    // The connection accepted last, which may not be admitted yet.
    let mut accepted = None;
    loop {
        let admitted = async {
            let address = match &accepted {
                Some((_, address)) => *address,
                None => accepted.insert(listeners.accept_next(&accept_errors).await).1,
            };
            limiter.admit(address).await
        };
        tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            Ok(()) = limits.changed() => limiter.set_limits(&limits.borrow_and_update()),
            Some(ended) = connections.join_next() => report(ended),
            admission = admitted => {
                let Some((socket, address)) = accepted.take() else { continue };
                let Some(admission) = admission else {
                    report_rejection(&rejections, address);
                    continue;
                };
                let (server, draining) = (Arc::clone(&server), draining.clone());
                let activity = Activity::new(Instant::now(), gauges);
                connections.spawn(async move {
                    if let Err(error) = server.connection(socket, activity, (admission, address), draining).await {
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
        tracing::warn!(connections = connections.len(), "stopping with unfinished responses after {limit:?}");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        // The panic hook has logged the panic itself.
        tracing::debug!(%error, "connection task failed");
    }
}

fn report_rejection(lines: &LogThrottle<()>, address: Option<IpAddr>) {
    let Some(more) = lines.admit(()) else { return };
    let address = address.map(tracing::field::display);
    tracing::warn!(
        address,
        "closing connections of a client that is at its limit, and whose queue is full{more}\n  help: if it is a proxy, add it \
         to trusted_proxies; if many machines share the address, raise max_connections_per_client"
    );
}

/// Listeners that are polled round-robin, so that a busy one does not starve the others.
struct ListenerSet {
    listeners: Vec<Listener>,
    /// Index of the listener to poll first.
    next: usize,
}

impl ListenerSet {
    /// Accepts the next connection of any listener. Cancel safe.
    async fn accept(&mut self) -> io::Result<(Socket, Option<IpAddr>)> {
        poll_fn(|cx| {
            for offset in 0..self.listeners.len() {
                let index = (self.next + offset) % self.listeners.len();
                if let Poll::Ready(accepted) = self.listeners[index].poll_accept(cx) {
                    self.next = index + 1;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Accepts the next connection, and logs errors that come before it. Cancel safe.
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
                sleep(SHORTAGE_DELAY).await;
            }
        }
    }
}

/// Returns whether an error of accept concerns this process rather than one connection, and would recur at once.
fn is_shortage(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn help(kind: Option<Errno>) -> &'static str {
    match kind {
        Some(Errno::MFILE) => {
            "\n  help: raise the limit of open files (LimitNOFILE= in the unit), or lower max_connections"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shortage_delays_the_next_accept() {
        assert!(is_shortage(&Errno::MFILE.into()));
        assert!(is_shortage(&Errno::NOBUFS.into()));
        assert!(!is_shortage(&Errno::CONNABORTED.into()));
        assert!(!is_shortage(&Errno::INTR.into()));
    }
}
