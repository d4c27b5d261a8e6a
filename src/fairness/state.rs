//! Bookkeeping of a semaphore: permits held by each client, waiting clients, and whose turn it is.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Weak;

use tokio::time::Instant;

use super::client_id::ClientId;
use super::holder::Holder;

/// State of a semaphore. `S` sends a permit to a waiter.
pub(super) struct State<S> {
    pub(super) total: usize,
    /// Limit on the permits of one client.
    pub(super) per_client: usize,
    pub(super) held: usize,
    /// Clients that hold permits or wait.
    pub(super) clients: HashMap<ClientId, ClientState<S>>,
    /// Waiting clients, each once, in round-robin order.
    pub(super) round_robin: VecDeque<ClientId>,
    /// Permits that can be reclaimed, by sequence number.
    pub(super) reclaimable: HashMap<u64, Reclaimable>,
    pub(super) last_seq: u64,
    /// Time of the last attempt to reclaim permits.
    pub(super) last_reclaim: Option<Instant>,
}

/// Permits and requests of one client.
pub(super) struct ClientState<S> {
    pub(super) held: usize,
    /// Waiters by sequence number, so the first one waits longest.
    pub(super) waiting: BTreeMap<u64, Waiter<S>>,
}

/// A request for permits.
pub(super) struct Waiter<S> {
    pub(super) amount: usize,
    pub(super) since: Instant,
    pub(super) sender: S,
}

/// Permits that can be reclaimed from their holder.
pub(super) struct Reclaimable {
    pub(super) client: ClientId,
    pub(super) amount: usize,
    pub(super) holder: Weak<dyn Holder>,
    /// Time at which the holder was asked to give them up.
    pub(super) asked: Option<Instant>,
}

impl<S> Default for ClientState<S> {
    fn default() -> Self {
        Self { held: 0, waiting: BTreeMap::new() }
    }
}

impl<S> State<S> {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            per_client: usize::MAX,
            held: 0,
            clients: HashMap::new(),
            round_robin: VecDeque::new(),
            reclaimable: HashMap::new(),
            last_seq: 0,
            last_reclaim: None,
        }
    }

    pub(super) fn available(&self) -> usize {
        self.total.saturating_sub(self.held)
    }

    pub(super) fn held_by(&self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |state| state.held)
    }

    /// Returns the permits that count against a client in the order of service: none for a proxy, which may have any number
    /// of clients behind it.
    pub(super) fn counted(&self, client: ClientId) -> usize {
        if client.has_quota() { self.held_by(client) } else { 0 }
    }

    /// Returns whether the limit per client allows the client this many more.
    pub(super) fn is_within_quota(&self, client: ClientId, amount: usize) -> bool {
        !client.has_quota() || self.held_by(client).saturating_add(amount) <= self.per_client.max(amount)
    }

    /// Returns whether permits are available now to a client that does not wait.
    pub(super) fn can_acquire(&self, client: ClientId, amount: usize) -> bool {
        amount <= self.available() && self.is_within_quota(client, amount) && self.next_turn().is_none()
    }

    /// Gives permits to a client and returns their sequence number.
    pub(super) fn grant(&mut self, client: ClientId, amount: usize) -> u64 {
        self.held += amount;
        self.clients.entry(client).or_default().held += amount;
        self.last_seq += 1;
        self.last_seq
    }

    /// Takes permits back.
    pub(super) fn release(&mut self, client: ClientId, amount: usize) {
        self.held -= amount;
        if let Some(state) = self.clients.get_mut(&client) {
            state.held -= amount;
            self.forget_if_unused(client);
        }
    }

    /// Adds a request to the queue and returns its sequence number.
    pub(super) fn enqueue(&mut self, client: ClientId, amount: usize, sender: S) -> u64 {
        self.last_seq += 1;
        let waiter = Waiter { amount: amount.min(self.total), since: Instant::now(), sender };
        let state = self.clients.entry(client).or_default();
        if state.waiting.is_empty() {
            self.round_robin.push_back(client);
        }
        state.waiting.insert(self.last_seq, waiter);
        self.last_seq
    }

    /// Removes a request from the queue, unless it was served.
    pub(super) fn dequeue(&mut self, client: ClientId, seq: u64) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        if state.waiting.remove(&seq).is_some() && state.waiting.is_empty() {
            self.round_robin.retain(|waiting| *waiting != client);
            self.forget_if_unused(client);
        }
    }

    /// Serves the next request, if enough permits are available. Returns its client, the sequence number of its permits and
    /// the waiter.
    pub(super) fn serve_next(&mut self) -> Option<(ClientId, u64, Waiter<S>)> {
        let (turn, client) = self.next_turn()?;
        if self.wanted_by(client)? > self.available() {
            return None;
        }
        let state = self.clients.get_mut(&client)?;
        let (_, waiter) = state.waiting.pop_first()?;
        let has_more = !state.waiting.is_empty();
        self.round_robin.remove(turn);
        if has_more {
            self.round_robin.push_back(client);
        }
        let seq = self.grant(client, waiter.amount);
        Some((client, seq, waiter))
    }

    /// Returns the client to serve next and its position: of the waiting clients within their limit, the one that holds fewest.
    fn next_turn(&self) -> Option<(usize, ClientId)> {
        let is_eligible =
            |client: &ClientId| self.wanted_by(*client).is_some_and(|amount| self.is_within_quota(*client, amount));
        let turns = self.round_robin.iter().copied().enumerate().filter(|(_, client)| is_eligible(client));
        turns.min_by_key(|(_, client)| self.counted(*client))
    }

    /// Returns the amount of the client's first request.
    fn wanted_by(&self, client: ClientId) -> Option<usize> {
        Some(self.clients.get(&client)?.waiting.first_key_value()?.1.amount)
    }

    fn forget_if_unused(&mut self, client: ClientId) {
        if self.clients.get(&client).is_some_and(|state| state.held == 0 && state.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}
