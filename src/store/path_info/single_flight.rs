//! One question for all who wait for its answer.
//!
//! A flight has a key; whoever asks about the key while it is under way waits for it. A flight belongs to nobody who
//! waits: it runs in a task of its own, so that a client that goes away takes nothing from the others, and it ends early
//! only when nobody waits any more. It tells who waits, so that its work can have the turn of each of them.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::fairness::ClientId;

/// The flights that are under way.
#[derive(Debug)]
pub(crate) struct SingleFlight<K, T>(Mutex<HashMap<K, InFlight<T>>>);

/// Where those who ask join a flight.
#[derive(Debug)]
struct InFlight<T> {
    outcome: watch::Sender<Option<T>>,
    clients: mpsc::UnboundedSender<ClientId>,
}

/// A place among those who wait.
#[derive(Debug)]
pub(crate) struct Waiter<T>(watch::Receiver<Option<T>>);

/// A flight under way. Dropped without having landed it sends away those who wait, who may begin another.
#[derive(Debug)]
pub(crate) struct Leader<K: Eq + Hash, T> {
    flights: Arc<SingleFlight<K, T>>,
    key: K,
    sender: watch::Sender<Option<T>>,
    clients: mpsc::UnboundedReceiver<ClientId>,
}

impl<K: Copy + Eq + Hash, T: Clone> SingleFlight<K, T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// A client's ticket for the flight about `key`, and the flight itself if it is not under way yet.
    pub(crate) fn join(self: &Arc<Self>, key: K, client: ClientId) -> (Waiter<T>, Option<Leader<K, T>>) {
        let mut flights = self.0.lock();
        if let Some(boarding) = flights.get(&key) {
            // A flight that has had its turn needs no other.
            let _ = boarding.clients.send(client);
            return (Waiter(boarding.outcome.subscribe()), None);
        }
        let (sender, receiver) = watch::channel(None);
        let (joining, clients) = mpsc::unbounded_channel();
        let _ = joining.send(client);
        flights.insert(key, InFlight { outcome: sender.clone(), clients: joining });
        (Waiter(receiver), Some(Leader { flights: Arc::clone(self), key, sender, clients }))
    }
}

impl<T: Clone> Waiter<T> {
    /// What the flight brings; nothing if it ended without landing. Dropping the future gives up the place.
    pub(crate) async fn wait(mut self) -> Option<T> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

impl<K: Copy + Eq + Hash, T: Clone> Leader<K, T> {
    /// The clients that wait for it, each as it comes, from the first on. To be taken once.
    pub(crate) fn clients(&mut self) -> mpsc::UnboundedReceiver<ClientId> {
        let (_, none) = mpsc::unbounded_channel();
        std::mem::replace(&mut self.clients, none)
    }

    /// Tells all who wait. Whoever asks from now on begins another flight.
    pub(crate) fn complete(self, outcome: T) {
        self.flights.0.lock().remove(&self.key);
        self.sender.send_replace(Some(outcome));
    }

    /// Lands with the outcome of `work`, unless nobody waits for it any more.
    pub(crate) async fn run(self, work: impl Future<Output = T>) {
        tokio::select! {
            outcome = work => self.complete(outcome),
            () = self.abandoned() => {}
        }
    }

    /// Ready when the last one who waited has gone; the flight is not to be boarded then.
    async fn abandoned(&self) {
        loop {
            self.sender.closed().await;
            let mut flights = self.flights.0.lock();
            // Somebody may have come in between; nobody can while this is locked.
            if self.sender.receiver_count() == 0 {
                flights.remove(&self.key);
                return;
            }
        }
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        // After a landing there may already be another flight.
        if flights.get(&self.key).is_some_and(|it| it.outcome.same_channel(&self.sender)) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_get_what_one_flight_brings() {
        let flights = SingleFlight::new();
        let (first, leader) = flights.join(1, ClientId::Server);
        let leader = leader.unwrap();
        let (second, none) = flights.join(1, ClientId::Server);
        let (_, other) = flights.join(2, ClientId::Server);
        assert!(none.is_none() && other.is_some());
        leader.complete("landed");
        assert_eq!((first.wait().await, second.wait().await), (Some("landed"), Some("landed")));
        assert!(flights.join(1, ClientId::Server).1.is_some(), "it is boarded after it has landed");
    }

    #[tokio::test]
    async fn a_flight_goes_on_while_anybody_waits_and_no_longer() {
        let flights = SingleFlight::new();
        let (first, leader) = flights.join(1, ClientId::Server);
        let (second, _) = flights.join(1, ClientId::Server);
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(leader.unwrap().run(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        }));
        drop(first);
        tokio::task::yield_now().await;
        assert!(!task.is_finished() && flights.join(1, ClientId::Server).1.is_none());
        drop(second);
        task.await.unwrap();
        assert!(is_gone.await.is_err(), "its work was not dropped");
        assert!(flights.join(1, ClientId::Server).1.is_some());
    }

    #[tokio::test]
    async fn those_who_wait_for_a_flight_that_falls_are_sent_away() {
        let flights = SingleFlight::<_, ()>::new();
        let (waiter, leader) = flights.join(1, ClientId::Server);
        let task = tokio::spawn(leader.unwrap().run(async { panic!("on purpose") }));
        assert_eq!(waiter.wait().await, None);
        assert!(task.await.is_err() && flights.join(1, ClientId::Server).1.is_some());
    }
}
