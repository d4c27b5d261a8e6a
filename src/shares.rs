//! What there is a bounded amount of, shared by clients so that none of them takes it from the others.
//!
//! Owns who is next: those who wait are served by turns, a client at a time, whatever number of requests each has. Where
//! a client decides how long it keeps what it got (it may read slowly), it also gets no more than it then leaves: one
//! alone has half, two that come together have a third each. A client that has nothing gets what is free.
//!
//! - Nobody is overtaken for ever: whoever is next waits for the amount that it needs, and others behind it.
//! - Whoever stops waiting leaves nothing behind, and a [`Share`] that is dropped is there for the next one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};

use crate::client::Client;

/// Something that is shared. Clones are the same.
#[derive(Clone)]
pub struct Shares(Arc<Mutex<State>>);

struct State {
    total: usize,
    free: usize,
    /// Whether a client gets no more than it leaves.
    are_kept: bool,
    /// Those that have something or wait.
    clients: HashMap<Client, Account>,
    /// Those that wait, each once, whose turn is next first.
    turns: VecDeque<Client>,
    tickets: u64,
}

#[derive(Default)]
struct Account {
    held: usize,
    /// By ticket: the first one came first.
    waiting: BTreeMap<u64, Waiter>,
}

struct Waiter {
    amount: usize,
    sender: oneshot::Sender<Share>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    client: Client,
    amount: usize,
}

impl Shares {
    /// So much, of which nobody keeps anything for longer than it is worked with here: a client alone gets all of it.
    #[must_use]
    pub fn by_turns(total: usize) -> Self {
        Self::new(total, false)
    }

    /// So much, which clients keep for as long as they like: each gets no more than it leaves, but for
    /// those that are not one client.
    #[must_use]
    pub fn kept(total: usize) -> Self {
        Self::new(total, true)
    }

    fn new(total: usize, are_kept: bool) -> Self {
        let state = State { total, free: total, are_kept, clients: HashMap::new(), turns: VecDeque::new(), tickets: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for so much; more than there is counts as all of it. Dropping the future gives up the place in the queue.
    pub async fn take(&self, client: Client, amount: usize) -> Share {
        let mut waiting = self.wait(client, amount);
        // It is served before its sender goes, so there always is one.
        let nothing = |_| Share { of: self.clone(), client, amount: 0 };
        (&mut waiting.receiver).await.unwrap_or_else(nothing)
    }

    /// Waits for so much for all clients that come, by the turn of whichever is first: it is for each of them.
    pub async fn take_for_any(&self, mut clients: mpsc::UnboundedReceiver<Client>, amount: usize) -> Share {
        let mut turns: HashMap<Client, Pin<Box<dyn Future<Output = Share> + Send + '_>>> = HashMap::new();
        poll_fn(|context| {
            while let Poll::Ready(Some(client)) = clients.poll_recv(context) {
                turns.entry(client).or_insert_with(|| Box::pin(self.take(client, amount)));
            }
            let share = turns.values_mut().find_map(|turn| match turn.as_mut().poll(context) {
                Poll::Ready(share) => Some(share),
                Poll::Pending => None,
            });
            share.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// So much, if it can be had at once.
    #[must_use]
    pub fn try_take(&self, client: Client, amount: usize) -> Option<Share> {
        self.wait(client, amount).receiver.try_recv().ok()
    }

    /// What is left.
    #[must_use]
    pub fn free(&self) -> usize {
        self.state().free
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().clients.values().map(|account| account.waiting.len()).sum()
    }

    fn wait(&self, client: Client, amount: usize) -> Waiting<'_> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.state().enter(client, amount, sender);
        self.serve();
        Waiting { shares: self, client, ticket, receiver }
    }

    /// Gives to those who are next what is free.
    fn serve(&self) {
        loop {
            let Some((client, Waiter { amount, sender })) = self.state().next() else { return };
            let share = Share { of: self.clone(), client, amount };
            // Whoever has just left lets it go again.
            drop(sender.send(share));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, client: Client, amount: usize, sender: oneshot::Sender<Share>) -> u64 {
        self.tickets += 1;
        let waiter = Waiter { amount: amount.min(self.total), sender };
        let account = self.clients.entry(client).or_default();
        if account.waiting.is_empty() {
            self.turns.push_back(client);
        }
        account.waiting.insert(self.tickets, waiter);
        self.tickets
    }

    /// The next one who gets what it waits for.
    fn next(&mut self) -> Option<(Client, Waiter)> {
        for turn in 0..self.turns.len() {
            let client = self.turns[turn];
            let account = self.clients.get_mut(&client)?;
            let waiter = account.waiting.first_entry()?;
            let amount = waiter.get().amount;
            // What is left for others has to be as much as what it would have.
            let bounded = self.are_kept && client.is_one() && account.held > 0;
            if bounded && account.held + amount > self.free.saturating_sub(amount) {
                continue;
            }
            if amount > self.free {
                return None;
            }
            let waiter = waiter.remove();
            account.held += amount;
            self.free -= amount;
            self.turns.remove(turn);
            if !account.waiting.is_empty() {
                self.turns.push_back(client);
            }
            return Some((client, waiter));
        }
        None
    }

    fn leave(&mut self, client: Client, ticket: u64) {
        let Some(account) = self.clients.get_mut(&client) else { return };
        if account.waiting.remove(&ticket).is_some() && account.waiting.is_empty() {
            self.turns.retain(|waiting| *waiting != client);
            self.forget(client);
        }
    }

    fn give_back(&mut self, client: Client, amount: usize) {
        self.free += amount;
        if let Some(account) = self.clients.get_mut(&client) {
            account.held -= amount;
            self.forget(client);
        }
    }

    /// Those that have nothing and want nothing.
    fn forget(&mut self, client: Client) {
        if self.clients.get(&client).is_some_and(|account| account.held == 0 && account.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

/// A place in the queue.
struct Waiting<'a> {
    shares: &'a Shares,
    client: Client,
    ticket: u64,
    receiver: oneshot::Receiver<Share>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shares.state().leave(self.client, self.ticket);
        // It may have been the one that the others waited for.
        self.shares.serve();
    }
}

impl Share {
    /// Gives back what is more than this.
    pub fn keep(&mut self, amount: usize) {
        let more = self.amount.saturating_sub(amount);
        if more > 0 {
            self.amount -= more;
            self.of.state().give_back(self.client, more);
            self.of.serve();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.state().give_back(self.client, self.amount);
        self.of.serve();
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "Shares({} of {} free, {} clients wait)", state.free, state.total, state.turns.len())
    }
}

#[cfg(test)]
mod tests;
