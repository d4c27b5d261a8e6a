//! Limits the connections that are served, and chooses which waiting one is served next.
//!
//! A connection beyond the limit is accepted and waits, unread: its request stays in the kernel. While one waits, the
//! longest idle connection is closed for it, or the slowest ([`crate::fairness`]). Only some connections wait here; further
//! ones wait in the kernel's queue. A new connection is closed only if its client is at its own limit, or holds most of the
//! connections, all in use, and most of the queue, and would keep out every client that comes later.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::forwarded::peer_client;
use super::limits::Limits;
use crate::config::Cidr;
use crate::fairness::{ClientId, ClientPermits, FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// Length of each queue: a fraction of the connections that may be served, and its maximum.
const QUEUE: (usize, usize) = (8, 256);

/// Time that a connection of a dominant client waits for room in a full queue, before it is clear that the client keeps
/// others out.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(2);

/// Limits the connections of all listeners together.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    served: FairSemaphore,
    /// Queue of connections that wait to be served.
    queue: Arc<Semaphore>,
    /// Queue of those whose client already holds most connections.
    dominant_queue: Arc<Semaphore>,
    /// Whether the last wait for room in the dominant queue timed out.
    is_stuck: AtomicBool,
    trusted_proxies: Mutex<Vec<Cidr>>,
}

/// An accepted connection, which is served or waits in a queue.
#[derive(Debug)]
pub(super) struct Admission {
    client: ClientId,
    state: State,
}

#[derive(Debug)]
enum State {
    Served(Permit),
    Queued { semaphore: FairSemaphore, slot: Option<OwnedSemaphorePermit> },
}

impl ConnectionLimiter {
    /// Creates a limiter with these limits.
    #[must_use]
    pub(crate) fn new(limits: &Limits, metrics: &Metrics) -> Self {
        let (part, most) = QUEUE;
        let queue = || Arc::new(Semaphore::new((limits.max_connections / part).clamp(1, most)));
        let limiter = Self {
            served: FairSemaphore::new("connection", limits.max_connections, metrics),
            queue: queue(),
            dominant_queue: queue(),
            is_stuck: AtomicBool::new(false),
            trusted_proxies: Mutex::default(),
        };
        limiter.set_limits(limits);
        limiter
    }

    /// Returns the connections of each client, in no order.
    #[must_use]
    pub(crate) fn clients(&self) -> Vec<ClientPermits> {
        self.served.clients()
    }

    /// Applies new limits. Open connections stay open.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.served.resize(limits.max_connections, limits.max_connections_per_client.unwrap_or(usize::MAX));
        self.trusted_proxies.lock().clone_from(&limits.trusted_proxies);
    }

    /// Admits a connection from this address, once it can be served or queued.
    ///
    /// Returns `None` if it has to be closed: its client is at its limit, or holds most connections, its queue is full, and
    /// nothing moves. Cancel safe.
    pub(super) async fn admit(&self, address: Option<IpAddr>) -> Option<Admission> {
        let client = peer_client(address, &self.trusted_proxies.lock());
        if let Some(permit) = self.served.try_acquire(client, 1) {
            return Some(Admission { client, state: State::Served(permit) });
        }
        let is_dominant = self.served.is_dominated_by(client);
        let queue = if is_dominant { &self.dominant_queue } else { &self.queue };
        let slot = match Arc::clone(queue).try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) if self.served.is_at_quota(client) => return None,
            Err(_) if is_dominant && self.is_stuck.load(Ordering::Relaxed) => return None,
            Err(_) if is_dominant => {
                let slot = timeout(QUEUE_FULL_TIMEOUT, Arc::clone(queue).acquire_owned()).await;
                self.is_stuck.store(slot.is_err(), Ordering::Relaxed);
                slot.ok()?.ok()
            }
            // The semaphore is never closed.
            Err(_) => Arc::clone(queue).acquire_owned().await.ok(),
        };
        if is_dominant {
            self.is_stuck.store(false, Ordering::Relaxed);
        }
        Some(Admission { client, state: State::Queued { semaphore: self.served.clone(), slot } })
    }
}

impl Admission {
    /// Returns the client at the other end of the connection.
    pub(super) const fn client(&self) -> ClientId {
        self.client
    }

    /// Waits until the connection may be served, which it may be until the permit is dropped.
    pub(super) async fn permit(self) -> Permit {
        match self.state {
            State::Served(permit) => permit,
            State::Queued { semaphore, slot } => {
                let permit = semaphore.acquire(self.client, 1).await;
                drop(slot);
                permit
            }
        }
    }
}
