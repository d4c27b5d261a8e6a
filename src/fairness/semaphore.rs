//! A semaphore that serves clients fairly, and takes permits back while others wait.
//!
//! - What is free goes to the waiting client that holds least; among those that hold as much, by turns.
//! - Whoever needs much is not overtaken by those who need little: what is free waits for it.
//! - Whoever stops waiting leaves nothing behind, and a [`Permit`] that is dropped is there for the next one.
//! - Permits that have a [`Holder`] are taken back while somebody waits, by [`Demand`]; others are kept until they are dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::Holder;
use crate::fairness::ClientId;
use crate::metrics::{Metrics, Reclaimed};
use crate::sync::LogThrottle;
use crate::sync::Mutex;

mod reclaim;
mod shares;

pub use shares::ClientShare;

/// How soon after it began to wait a client looks for what can be taken back, and how often from then on.
const LOOKS: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(250)];

/// A number of permits for what is scarce. Clones are the same.
#[derive(Clone)]
pub struct FairSemaphore(Arc<Inner>);

struct Inner {
    what: &'static str,
    state: Mutex<State>,
    reclaimed: Reclaimed,
    log: LogThrottle<()>,
}

struct State {
    total: usize,
    /// Permits that no client may have more of.
    per_client: usize,
    held: usize,
    /// Those that have something or wait.
    clients: HashMap<ClientId, Account>,
    /// Those that wait, each once, in the order of their turns.
    turns: VecDeque<ClientId>,
    /// Permits that can be taken back, by ticket.
    holdings: HashMap<u64, Holding>,
    tickets: u64,
    looked: Option<Instant>,
}

#[derive(Default)]
struct Account {
    held: usize,
    /// By ticket: the first one came first.
    waiting: BTreeMap<u64, Waiter>,
}

struct Waiter {
    amount: usize,
    since: Instant,
    sender: oneshot::Sender<Permit>,
}

struct Holding {
    client: ClientId,
    amount: usize,
    holder: Weak<dyn Holder>,
    /// When it was told to give up.
    told: Option<Instant>,
}

/// Some of the permits, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    of: FairSemaphore,
    client: ClientId,
    amount: usize,
    ticket: u64,
}

impl FairSemaphore {
    /// `total` permits. `what` they are for is the label of the metric and stands in the log.
    #[must_use]
    pub fn new(what: &'static str, total: usize, metrics: &Metrics) -> Self {
        let state = State {
            total,
            per_client: usize::MAX,
            held: 0,
            clients: HashMap::new(),
            turns: VecDeque::new(),
            holdings: HashMap::new(),
            tickets: 0,
            looked: None,
        };
        Self(Arc::new(Inner {
            what,
            state: Mutex::new(state),
            reclaimed: metrics.reclaimed(what),
            log: LogThrottle::default(),
        }))
    }

    /// Sets the number of permits, and of those that one client may have. Who has more keeps them.
    pub fn resize(&self, total: usize, per_client: usize) {
        let mut state = self.state();
        (state.total, state.per_client) = (total, per_client.max(1));
        drop(state);
        self.serve();
    }

    /// Waits for so many permits; more than there are counts as all. Dropping the future gives up the place in the queue.
    pub async fn acquire(&self, client: ClientId, amount: usize) -> Permit {
        if let Some(permit) = self.try_acquire(client, amount) {
            return permit;
        }
        let mut waiting = self.wait(client, amount);
        let mut looks = LOOKS.into_iter();
        let mut pause = LOOKS[0];
        loop {
            pause = looks.next().unwrap_or(pause);
            if let Ok(served) = timeout(pause, &mut waiting.receiver).await {
                // It is served before its sender goes, so there always is a permit.
                return served.unwrap_or_else(|_| self.permit(client, 0, 0));
            }
            self.reclaim();
        }
    }

    /// Waits for so many permits for all clients that come, by the turn of whichever is first.
    pub async fn acquire_for_any(&self, mut clients: mpsc::UnboundedReceiver<ClientId>, amount: usize) -> Permit {
        let mut turns: HashMap<ClientId, Pin<Box<dyn Future<Output = Permit> + Send + '_>>> = HashMap::new();
        poll_fn(|context| {
            while let Poll::Ready(Some(client)) = clients.poll_recv(context) {
                turns.entry(client).or_insert_with(|| Box::pin(self.acquire(client, amount)));
            }
            let permit = turns.values_mut().find_map(|turn| match turn.as_mut().poll(context) {
                Poll::Ready(permit) => Some(permit),
                Poll::Pending => None,
            });
            permit.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// So many permits, if they are free and nobody waits.
    #[must_use]
    pub fn try_acquire(&self, client: ClientId, amount: usize) -> Option<Permit> {
        let mut state = self.state();
        let amount = amount.min(state.total);
        if !state.has(client, amount) || state.next_turn().is_some() {
            return None;
        }
        let ticket = state.grant(client, amount);
        drop(state);
        Some(self.permit(client, amount, ticket))
    }

    /// Whether the client has as many permits as one may have.
    #[must_use]
    pub fn is_bounded(&self, client: ClientId) -> bool {
        !self.state().may_have(client, 1)
    }

    /// Whether the client has half of all permits, or more than each of those that there are could have.
    #[must_use]
    pub fn is_crowded_by(&self, client: ClientId) -> bool {
        let state = self.state();
        let (held, clients) = (state.weight(client), state.clients.len());
        held.saturating_mul(2) >= state.total.max(1) || held.saturating_mul(clients) > state.total
    }

    /// Permits that are left.
    #[must_use]
    pub fn free(&self) -> usize {
        self.state().free()
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().clients.values().map(|account| account.waiting.len()).sum()
    }

    fn permit(&self, client: ClientId, amount: usize, ticket: u64) -> Permit {
        Permit { of: self.clone(), client, amount, ticket }
    }

    fn wait(&self, client: ClientId, amount: usize) -> Waiting<'_> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.state().enter(client, amount, sender);
        self.serve();
        Waiting { semaphore: self, client, ticket, receiver }
    }

    /// Gives to those who are next what is free.
    fn serve(&self) {
        loop {
            let Some((client, ticket, Waiter { amount, sender, .. })) = self.state().next() else { return };
            // Whoever has just left lets it go again.
            drop(sender.send(self.permit(client, amount, ticket)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    fn free(&self) -> usize {
        self.total.saturating_sub(self.held)
    }

    fn held(&self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |account| account.held)
    }

    /// What counts against a client in the order of turns: there may be any number of them behind a proxy.
    fn weight(&self, client: ClientId) -> usize {
        if client.has_quota() { self.held(client) } else { 0 }
    }

    /// Whether the client may have so much more by its own bound.
    fn may_have(&self, client: ClientId, amount: usize) -> bool {
        !client.has_quota() || self.held(client).saturating_add(amount) <= self.per_client.max(amount)
    }

    fn has(&self, client: ClientId, amount: usize) -> bool {
        amount <= self.free() && self.may_have(client, amount)
    }

    fn grant(&mut self, client: ClientId, amount: usize) -> u64 {
        self.held += amount;
        self.clients.entry(client).or_default().held += amount;
        self.tickets += 1;
        self.tickets
    }

    fn enter(&mut self, client: ClientId, amount: usize, sender: oneshot::Sender<Permit>) -> u64 {
        self.tickets += 1;
        let waiter = Waiter { amount: amount.min(self.total), since: Instant::now(), sender };
        let account = self.clients.entry(client).or_default();
        if account.waiting.is_empty() {
            self.turns.push_back(client);
        }
        account.waiting.insert(self.tickets, waiter);
        self.tickets
    }

    /// Whose turn it is, and where that stands: of those that may have what they wait for, whoever holds least.
    fn next_turn(&self) -> Option<(usize, ClientId)> {
        let may_be_served =
            |client: &ClientId| self.wants(*client).is_some_and(|amount| self.may_have(*client, amount));
        let turns = self.turns.iter().copied().enumerate().filter(|(_, client)| may_be_served(client));
        turns.min_by_key(|(_, client)| self.weight(*client))
    }

    /// The amount that the client waits for first.
    fn wants(&self, client: ClientId) -> Option<usize> {
        Some(self.clients.get(&client)?.waiting.first_key_value()?.1.amount)
    }

    /// The next one who gets what it waits for, with the ticket of its permit.
    fn next(&mut self) -> Option<(ClientId, u64, Waiter)> {
        let (turn, client) = self.next_turn()?;
        if self.wants(client)? > self.free() {
            return None;
        }
        let account = self.clients.get_mut(&client)?;
        let (_, waiter) = account.waiting.pop_first()?;
        let has_more = !account.waiting.is_empty();
        self.turns.remove(turn);
        if has_more {
            self.turns.push_back(client);
        }
        let ticket = self.grant(client, waiter.amount);
        Some((client, ticket, waiter))
    }

    fn leave(&mut self, client: ClientId, ticket: u64) {
        let Some(account) = self.clients.get_mut(&client) else { return };
        if account.waiting.remove(&ticket).is_some() && account.waiting.is_empty() {
            self.turns.retain(|waiting| *waiting != client);
            self.forget(client);
        }
    }

    fn give_back(&mut self, client: ClientId, amount: usize) {
        self.held -= amount;
        if let Some(account) = self.clients.get_mut(&client) {
            account.held -= amount;
            self.forget(client);
        }
    }

    /// Those that have nothing and want nothing.
    fn forget(&mut self, client: ClientId) {
        if self.clients.get(&client).is_some_and(|account| account.held == 0 && account.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

/// A place in the queue.
struct Waiting<'a> {
    semaphore: &'a FairSemaphore,
    client: ClientId,
    ticket: u64,
    receiver: oneshot::Receiver<Permit>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.semaphore.state().leave(self.client, self.ticket);
        // It may have been the one that the others waited for.
        self.semaphore.serve();
    }
}

impl Permit {
    /// Lets it be taken back from `holder` from now on, at the pace that it tells.
    pub fn held_by(&self, holder: Weak<dyn Holder>) {
        let holding = Holding { client: self.client, amount: self.amount, holder, told: None };
        self.of.state().holdings.insert(self.ticket, holding);
    }

    /// Gives back what is more than this.
    pub fn shrink(&mut self, amount: usize) {
        let more = self.amount.saturating_sub(amount);
        if more > 0 {
            self.amount -= more;
            let mut state = self.of.state();
            state.give_back(self.client, more);
            if let Some(holding) = state.holdings.get_mut(&self.ticket) {
                holding.amount = self.amount;
            }
            drop(state);
            self.of.serve();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.of.state();
        let holding = state.holdings.remove(&self.ticket);
        state.give_back(self.client, self.amount);
        drop(state);
        // Its drop may be the end of the holder, which may have permits.
        drop(holding);
        self.of.serve();
    }
}

impl fmt::Debug for FairSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "{} ({} of {} free, {} clients wait)", self.0.what, state.free(), state.total, state.turns.len())
    }
}

#[cfg(test)]
mod tests;
