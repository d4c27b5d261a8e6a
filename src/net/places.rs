//! The places of connections: how many are served, and which of those that have been accepted are next.
//!
//! A connection beyond the bound is accepted and waits, unread: its request lies in the kernel. While one waits, the longest
//! idle connection is closed to make room, or the slowest ([`crate::fairness`]). Only so many wait here; further ones wait in the
//! kernel's queue until then. Nothing is closed for coming, unless its client has a bound of its own.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::forwarded::peer;
use super::limits::Limits;
use crate::client::Client;
use crate::config::Network;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::Metrics;

/// Connections that have been accepted and wait: a part of those that may be served, and at most so many.
const WAITING: (usize, usize) = (8, 256);

/// The places of all connections.
#[derive(Debug)]
pub(super) struct Places {
    served: FairSemaphore,
    waiting: Arc<Semaphore>,
    proxies: Mutex<Vec<Network>>,
}

/// The way of one connection to its place.
#[derive(Debug)]
pub(super) struct Place {
    client: Client,
    way: Way,
}

#[derive(Debug)]
enum Way {
    There(Permit),
    Waiting { for_one_of: FairSemaphore, room: Option<OwnedSemaphorePermit> },
}

impl Places {
    pub(super) fn new(limits: &Limits, metrics: &Metrics) -> Self {
        let served = FairSemaphore::new("connection", limits.max_connections, metrics);
        let (part, most) = WAITING;
        let waiting = Arc::new(Semaphore::new((limits.max_connections / part).clamp(1, most)));
        let places = Self { served, waiting, proxies: Mutex::default() };
        places.adjust(limits);
        places
    }

    /// Applies these limits from now on.
    pub(super) fn adjust(&self, limits: &Limits) {
        self.served.resize(limits.max_connections, limits.max_connections_per_client.unwrap_or(usize::MAX));
        self.proxies().clone_from(&limits.proxies);
    }

    /// The way of a connection from this address to a place. Waits until there is one, or room to wait for one; nothing if its
    /// client has as many as it may, and as many that wait as there is room for: it must not keep others out. Cancel safe.
    pub(super) async fn admit(&self, address: Option<IpAddr>) -> Option<Place> {
        let client = peer(address, &self.proxies());
        if let Some(permit) = self.served.try_acquire(client, 1) {
            return Some(Place { client, way: Way::There(permit) });
        }
        let room = Arc::clone(&self.waiting);
        let room = match room.try_acquire_owned() {
            Ok(room) => Some(room),
            Err(_) if self.served.is_bounded(client) => return None,
            // Nothing closes the semaphore.
            Err(_) => Arc::clone(&self.waiting).acquire_owned().await.ok(),
        };
        Some(Place { client, way: Way::Waiting { for_one_of: self.served.clone(), room } })
    }

    fn proxies(&self) -> MutexGuard<'_, Vec<Network>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose connection it is.
    pub(super) const fn client(&self) -> Client {
        self.client
    }

    /// Waits until the connection may be served, for as long as the result is kept.
    pub(super) async fn permit(self) -> Permit {
        match self.way {
            Way::There(permit) => permit,
            Way::Waiting { for_one_of, room } => {
                let permit = for_one_of.acquire(self.client, 1).await;
                drop(room);
                permit
            }
        }
    }
}
