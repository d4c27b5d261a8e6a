//! How many connections each client has.
//!
//! Those beyond a client's bound are accepted and wait, unread, until one of its others ends: their requests lie in the
//! kernel, and nothing fails that would be served a moment later. Only so many may wait, since each keeps a place from
//! other clients; further ones are closed at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::Limits;
use crate::client::Client;
use crate::config::Network;

/// The connections of all clients.
#[derive(Debug)]
pub(super) struct Guests {
    house: Mutex<House>,
}

#[derive(Debug)]
struct House {
    /// For each client that comes without having a connection: others keep what they began with.
    max_seats: usize,
    proxies: Vec<Network>,
    clients: HashMap<Client, Table>,
}

/// What one client has.
#[derive(Debug)]
struct Table {
    max_guests: usize,
    guests: usize,
    seats: Arc<Semaphore>,
}

/// A connection that was let in, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    client: Client,
    seats: Arc<Semaphore>,
}

impl Guests {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let house = House { max_seats: 0, proxies: Vec::new(), clients: HashMap::new() };
        let guests = Arc::new(Self { house: Mutex::new(house) });
        guests.adjust(limits);
        guests
    }

    /// Applies these limits from now on.
    pub(super) fn adjust(&self, limits: &Limits) {
        let mut house = self.house();
        house.max_seats = limits.max_connections_per_client;
        house.proxies.clone_from(&limits.proxies);
    }

    /// The client at the other end of a connection; without an address it is one of a Unix socket.
    pub(super) fn client(&self, address: Option<IpAddr>) -> Client {
        match address {
            Some(address) if !self.house().proxies.iter().any(|proxies| proxies.contains(address)) => {
                Client::at(address)
            }
            _ => Client::Proxy,
        }
    }

    /// Lets one more connection in, unless too many of this client wait already: half as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Option<Guest> {
        let mut house = self.house();
        let seats = if client.is_one() { house.max_seats.min(Semaphore::MAX_PERMITS) } else { Semaphore::MAX_PERMITS };
        let max_guests = seats + seats.div_ceil(2);
        let empty = || Table { max_guests, guests: 0, seats: Arc::new(Semaphore::new(seats)) };
        let table = house.clients.entry(client).or_insert_with(empty);
        if table.guests >= table.max_guests {
            return None;
        }
        table.guests += 1;
        Some(Guest { guests: Arc::clone(self), client, seats: Arc::clone(&table.seats) })
    }

    fn house(&self) -> MutexGuard<'_, House> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Whose connection it is.
    pub(super) const fn client(&self) -> Client {
        self.client
    }

    /// Waits until it may be served, for as long as the result is kept. Nothing closes the semaphore, so there is always
    /// a permit in the end.
    pub(super) async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).acquire_owned().await.ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut house = self.guests.house();
        let Some(table) = house.clients.get_mut(&self.client) else { return };
        table.guests -= 1;
        if table.guests == 0 {
            house.clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests() -> Arc<Guests> {
        Guests::new(&Limits { max_connections_per_client: 2, ..Limits::default() })
    }

    #[test]
    fn a_client_has_so_many_seats_and_half_as_many_that_wait() {
        let guests = guests();
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|address| guests.client(Some(address.parse().unwrap())));
        let mut of_one: Vec<_> = std::iter::from_fn(|| guests.enter(one)).collect();
        assert_eq!(of_one.len(), 3);
        assert!(guests.enter(other).is_some());
        of_one.pop();
        of_one.extend(guests.enter(one));
        assert_eq!(of_one.len(), 3);
        drop(of_one);
        assert!(guests.house().clients.is_empty());
        guests.adjust(&Limits { max_connections_per_client: 4, ..Limits::default() });
        assert_eq!(std::iter::from_fn(|| guests.enter(one)).take(9).collect::<Vec<_>>().len(), 6);
    }

    #[test]
    fn a_proxy_has_as_many_as_there_are() {
        let guests = guests();
        for address in [None, Some("127.0.0.1"), Some("::1"), Some("::ffff:127.0.0.2")] {
            let client = guests.client(address.map(|address| address.parse().unwrap()));
            let many: Vec<_> = (0..100).map(|_| guests.enter(client)).collect();
            assert!(many.iter().all(Option::is_some) && client == Client::Proxy, "{address:?}");
        }
    }
}
