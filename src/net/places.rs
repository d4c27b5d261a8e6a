//! The places of connections: how many are served, and which of those that have been accepted are next.
//!
//! A connection beyond the bound is accepted and waits, unread: its request lies in the kernel. While one waits, the longest
//! idle connection is closed to make room, or the slowest ([`crate::fairness`]). Only so many wait here; further ones wait in the
//! kernel's queue until then. Nothing is closed for coming, unless its client has a bound of its own, or has most of the places
//! and of the room to wait, uses all of them, and would keep out whoever comes after it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::forwarded::peer;
use super::limits::Limits;
use crate::config::Cidr;
use crate::fairness::ClientId;
use crate::fairness::{ClientPermits, FairSemaphore, Permit};
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// Connections that have been accepted and wait: a part of those that may be served, and at most so many.
const WAITING: (usize, usize) = (8, 256);

/// How long one more connection of a client with most of the places, and as many that wait as there is room for, is let wait
/// before it is clear that it keeps others out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The places of all connections.
#[derive(Debug)]
pub struct Places {
    served: FairSemaphore,
    /// For those that wait.
    waiting: Arc<Semaphore>,
    /// For those that wait of clients with most of the places.
    crowded: Arc<Semaphore>,
    /// Whether the last one that waited for room there did so in vain.
    is_stuck: AtomicBool,
    proxies: Mutex<Vec<Cidr>>,
}

/// The way of one connection to its place.
#[derive(Debug)]
pub(super) struct Place {
    client: ClientId,
    way: Way,
}

#[derive(Debug)]
enum Way {
    There(Permit),
    Waiting { for_one_of: FairSemaphore, room: Option<OwnedSemaphorePermit> },
}

impl Places {
    /// As many as `limits` say.
    #[must_use]
    pub fn new(limits: &Limits, metrics: &Metrics) -> Self {
        let served = FairSemaphore::new("connection", limits.max_connections, metrics);
        let (part, most) = WAITING;
        let room = || Arc::new(Semaphore::new((limits.max_connections / part).clamp(1, most)));
        let (waiting, crowded, is_stuck) = (room(), room(), AtomicBool::new(false));
        let places = Self { served, waiting, crowded, is_stuck, proxies: Mutex::default() };
        places.adjust(limits);
        places
    }

    /// The connections of each client, in no order.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientPermits> {
        self.served.clients()
    }

    /// Applies these limits from now on.
    pub(super) fn adjust(&self, limits: &Limits) {
        self.served.resize(limits.max_connections, limits.max_connections_per_client.unwrap_or(usize::MAX));
        self.proxies().clone_from(&limits.proxies);
    }

    /// The way of a connection from this address to a place. Waits until there is one, or room to wait for one; nothing if its
    /// client has as many as it may, or most of them, and as many that wait as there is room for, and nothing moves: it must not
    /// keep out those that come after it. Cancel safe.
    pub(super) async fn admit(&self, address: Option<IpAddr>) -> Option<Place> {
        let client = peer(address, &self.proxies());
        if let Some(permit) = self.served.try_acquire(client, 1) {
            return Some(Place { client, way: Way::There(permit) });
        }
        let is_crowd = self.served.is_dominated_by(client);
        let rooms = if is_crowd { &self.crowded } else { &self.waiting };
        let room = match Arc::clone(rooms).try_acquire_owned() {
            Ok(room) => Some(room),
            Err(_) if self.served.is_at_quota(client) => return None,
            Err(_) if is_crowd && self.is_stuck.load(Ordering::Relaxed) => return None,
            Err(_) if is_crowd => {
                let room = timeout(PATIENCE, Arc::clone(rooms).acquire_owned()).await;
                self.is_stuck.store(room.is_err(), Ordering::Relaxed);
                room.ok()?.ok()
            }
            // Nothing closes the semaphore.
            Err(_) => Arc::clone(rooms).acquire_owned().await.ok(),
        };
        if is_crowd {
            self.is_stuck.store(false, Ordering::Relaxed);
        }
        Some(Place { client, way: Way::Waiting { for_one_of: self.served.clone(), room } })
    }

    fn proxies(&self) -> MutexGuard<'_, Vec<Cidr>> {
        self.proxies.lock()
    }
}

impl Place {
    /// Whose connection it is.
    pub(super) const fn client(&self) -> ClientId {
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
