//! Single flight: concurrent callers with the same key share one execution.
//!
//! The first caller gets the [`Leader`] and runs it in a task, so that a waiter that goes away does not affect the
//! others. The task is cancelled when the last waiter is gone. The leader knows the waiting clients, so that its
//! work can wait in the queue of each of them.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::fairness::ClientId;

/// Executions in flight.
#[derive(Debug)]
pub(crate) struct SingleFlight<K, T>(Mutex<HashMap<K, InFlight<T>>>);

/// Channels by which callers join an execution.
#[derive(Debug)]
struct InFlight<T> {
    outcome: watch::Sender<Option<T>>,
    clients: mpsc::UnboundedSender<ClientId>,
}

/// A caller that waits for the result.
#[derive(Debug)]
pub(crate) struct Waiter<T>(watch::Receiver<Option<T>>);

/// Runs an execution. If it is dropped before it completes, waiters get `None` and may start another.
#[derive(Debug)]
pub(crate) struct Leader<K: Eq + Hash, T> {
    owner: Arc<SingleFlight<K, T>>,
    key: K,
    sender: watch::Sender<Option<T>>,
    clients: mpsc::UnboundedReceiver<ClientId>,
}

impl<K: Copy + Eq + Hash, T: Clone> SingleFlight<K, T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Joins the execution for `key`. Also returns its leader if there was none, which the caller has to run.
    pub(crate) fn join(self: &Arc<Self>, key: K, client: ClientId) -> (Waiter<T>, Option<Leader<K, T>>) {
        let mut executions = self.0.lock();
        if let Some(in_flight) = executions.get(&key) {
            // A leader that has had its turn ignores further clients.
            let _ = in_flight.clients.send(client);
            return (Waiter(in_flight.outcome.subscribe()), None);
        }
        let (sender, receiver) = watch::channel(None);
        let (joined, clients) = mpsc::unbounded_channel();
        let _ = joined.send(client);
        executions.insert(key, InFlight { outcome: sender.clone(), clients: joined });
        (Waiter(receiver), Some(Leader { owner: Arc::clone(self), key, sender, clients }))
    }
}

impl<T: Clone> Waiter<T> {
    /// Waits for the result; `None` if the leader was dropped. Dropping the future stops waiting.
    pub(crate) async fn wait(mut self) -> Option<T> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}

impl<K: Copy + Eq + Hash, T: Clone> Leader<K, T> {
    /// Takes the channel of waiting clients, from the first on. May be called once.
    pub(crate) fn clients(&mut self) -> mpsc::UnboundedReceiver<ClientId> {
        let (_, none) = mpsc::unbounded_channel();
        std::mem::replace(&mut self.clients, none)
    }

    /// Sends the result to all waiters. Later callers start another execution.
    pub(crate) fn complete(self, outcome: T) {
        self.owner.0.lock().remove(&self.key);
        self.sender.send_replace(Some(outcome));
    }

    /// Completes with the result of `work`, or cancels it when nobody waits any more.
    pub(crate) async fn run(self, work: impl Future<Output = T>) {
        tokio::select! {
            outcome = work => self.complete(outcome),
            () = self.abandoned() => {}
        }
    }

    /// Waits until the last waiter is gone, after which nobody can join.
    async fn abandoned(&self) {
        loop {
            self.sender.closed().await;
            let mut executions = self.owner.0.lock();
            // Somebody may have joined meanwhile, but not while this is locked.
            if self.sender.receiver_count() == 0 {
                executions.remove(&self.key);
                return;
            }
        }
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        let mut executions = self.owner.0.lock();
        // After completion there may already be another execution.
        if executions.get(&self.key).is_some_and(|it| it.outcome.same_channel(&self.sender)) {
            executions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_waiters_get_the_result_of_one_execution() {
        let single_flight = SingleFlight::new();
        let (first, leader) = single_flight.join(1, ClientId::Server);
        let leader = leader.unwrap();
        let (second, none) = single_flight.join(1, ClientId::Server);
        let (_, other) = single_flight.join(2, ClientId::Server);
        assert!(none.is_none() && other.is_some());
        leader.complete("result");
        assert_eq!((first.wait().await, second.wait().await), (Some("result"), Some("result")));
        assert!(single_flight.join(1, ClientId::Server).1.is_some(), "a completed execution was joined");
    }

    #[tokio::test]
    async fn an_execution_is_cancelled_when_the_last_waiter_is_gone() {
        let single_flight = SingleFlight::new();
        let (first, leader) = single_flight.join(1, ClientId::Server);
        let (second, _) = single_flight.join(1, ClientId::Server);
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(leader.unwrap().run(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        }));
        drop(first);
        tokio::task::yield_now().await;
        assert!(!task.is_finished() && single_flight.join(1, ClientId::Server).1.is_none());
        drop(second);
        task.await.unwrap();
        assert!(is_gone.await.is_err(), "its work was not dropped");
        assert!(single_flight.join(1, ClientId::Server).1.is_some());
    }

    #[tokio::test]
    async fn waiters_for_a_leader_that_panics_get_none() {
        let single_flight = SingleFlight::<_, ()>::new();
        let (waiter, leader) = single_flight.join(1, ClientId::Server);
        let task = tokio::spawn(leader.unwrap().run(async { panic!("on purpose") }));
        assert_eq!(waiter.wait().await, None);
        assert!(task.await.is_err() && single_flight.join(1, ClientId::Server).1.is_some());
    }
}
