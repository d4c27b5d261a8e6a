//! A semaphore that serves clients fairly, and reclaims permits while others wait.
//!
//! - Free permits go to the waiting client that holds fewest; clients that hold equally many are served round-robin.
//! - A request for many permits is not overtaken by requests for few: free permits wait for it.
//! - A dropped request leaves nothing behind, and a dropped [`Permit`] goes to the next one.
//! - Permits with a [`Holder`] are reclaimed while somebody waits; others are kept until they are dropped.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::client_id::ClientId;
use super::holder::Holder;
use super::state::{Reclaimable, State, Waiter};
use crate::metrics::{Metrics, Reclaimed};
use crate::sync::{LogThrottle, Mutex};

/// Delays until a waiting client first looks for permits to reclaim, and between later looks.
const RECLAIM_DELAYS: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(250)];

type Sender = oneshot::Sender<Permit>;

/// A number of permits for a limited resource. Clones share it.
#[derive(Clone)]
pub(crate) struct FairSemaphore(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) resource: &'static str,
    pub(super) state: Mutex<State<Sender>>,
    pub(super) reclaimed: Reclaimed,
    pub(super) log: LogThrottle<()>,
}

/// Some permits of a semaphore, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    semaphore: FairSemaphore,
    client: ClientId,
    pub(super) amount: usize,
    seq: u64,
}

impl FairSemaphore {
    /// Creates `total` permits for a `resource`, which is named in the metric and the log.
    #[must_use]
    pub(crate) fn new(resource: &'static str, total: usize, metrics: &Metrics) -> Self {
        let reclaimed = metrics.reclaimed(resource);
        Self(Arc::new(Inner { resource, state: Mutex::new(State::new(total)), reclaimed, log: LogThrottle::default() }))
    }

    /// Sets the number of permits and the limit per client. Clients above it keep what they hold.
    pub(crate) fn resize(&self, total: usize, per_client: usize) {
        let mut state = self.state();
        (state.total, state.per_client) = (total, per_client.max(1));
        drop(state);
        self.serve_waiting();
    }

    /// Waits for `amount` permits, or for all of them if that is fewer. Dropping the future leaves the queue.
    pub(crate) async fn acquire(&self, client: ClientId, amount: usize) -> Permit {
        if let Some(permit) = self.try_acquire(client, amount) {
            return permit;
        }
        let mut queued = self.enqueue(client, amount);
        let mut delays = RECLAIM_DELAYS.into_iter();
        let mut delay = RECLAIM_DELAYS[0];
        loop {
            delay = delays.next().unwrap_or(delay);
            if let Ok(served) = timeout(delay, &mut queued.receiver).await {
                // The sender is dropped only after it has sent, so there always is a permit.
                return served.unwrap_or_else(|_| self.permit(client, 0, 0));
            }
            self.reclaim();
        }
    }

    /// Waits for `amount` permits on behalf of all `clients` received, as soon as one of them is served.
    pub(crate) async fn acquire_for_any(
        &self,
        mut clients: mpsc::UnboundedReceiver<ClientId>,
        amount: usize,
    ) -> Permit {
        let mut requests: HashMap<ClientId, Pin<Box<dyn Future<Output = Permit> + Send + '_>>> = HashMap::new();
        poll_fn(|context| {
            while let Poll::Ready(Some(client)) = clients.poll_recv(context) {
                requests.entry(client).or_insert_with(|| Box::pin(self.acquire(client, amount)));
            }
            let permit = requests.values_mut().find_map(|request| match request.as_mut().poll(context) {
                Poll::Ready(permit) => Some(permit),
                Poll::Pending => None,
            });
            permit.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Acquires `amount` permits if they are available and nobody waits for them.
    #[must_use]
    pub(crate) fn try_acquire(&self, client: ClientId, amount: usize) -> Option<Permit> {
        let mut state = self.state();
        let amount = amount.min(state.total);
        if !state.can_acquire(client, amount) {
            return None;
        }
        let seq = state.grant(client, amount);
        drop(state);
        Some(self.permit(client, amount, seq))
    }

    /// Returns whether the client holds as many permits as one client may.
    #[must_use]
    pub(crate) fn is_at_quota(&self, client: ClientId) -> bool {
        !self.state().is_within_quota(client, 1)
    }

    /// Returns whether the client holds half of all permits, or more than an equal share of them.
    #[must_use]
    pub(crate) fn is_dominated_by(&self, client: ClientId) -> bool {
        let state = self.state();
        let (held, clients) = (state.counted(client), state.clients.len());
        held.saturating_mul(2) >= state.total.max(1) || held.saturating_mul(clients) > state.total
    }

    /// Returns the number of permits available.
    #[must_use]
    pub(crate) fn available(&self) -> usize {
        self.state().available()
    }

    /// Returns the number of requests that wait.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.state().clients.values().map(|client| client.waiting.len()).sum()
    }

    fn permit(&self, client: ClientId, amount: usize, seq: u64) -> Permit {
        Permit { semaphore: self.clone(), client, amount, seq }
    }

    fn enqueue(&self, client: ClientId, amount: usize) -> Queued<'_> {
        let (sender, receiver) = oneshot::channel();
        let seq = self.state().enqueue(client, amount, sender);
        self.serve_waiting();
        Queued { semaphore: self, client, seq, receiver }
    }

    /// Gives the available permits to the requests that are next.
    fn serve_waiting(&self) {
        loop {
            let Some((client, seq, Waiter { amount, sender, .. })) = self.state().serve_next() else { return };
            // A receiver that was dropped meanwhile drops the permit, which frees it again.
            drop(sender.send(self.permit(client, amount, seq)));
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<Sender>> {
        self.0.state.lock()
    }
}

/// A request in the queue, which it leaves when dropped.
struct Queued<'a> {
    semaphore: &'a FairSemaphore,
    client: ClientId,
    seq: u64,
    receiver: oneshot::Receiver<Permit>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.semaphore.state().dequeue(self.client, self.seq);
        // It may have been the request that the others waited behind.
        self.semaphore.serve_waiting();
    }
}

impl Permit {
    /// Lets the semaphore reclaim the permits from `holder` from now on.
    pub fn set_holder(&self, holder: Weak<dyn Holder>) {
        let reclaimable = Reclaimable { client: self.client, amount: self.amount, holder, asked: None };
        self.semaphore.state().reclaimable.insert(self.seq, reclaimable);
    }

    /// Releases all but `amount` permits.
    pub fn shrink_to(&mut self, amount: usize) {
        let excess = self.amount.saturating_sub(amount);
        if excess > 0 {
            self.amount -= excess;
            let mut state = self.semaphore.state();
            state.release(self.client, excess);
            if let Some(reclaimable) = state.reclaimable.get_mut(&self.seq) {
                reclaimable.amount = self.amount;
            }
            drop(state);
            self.semaphore.serve_waiting();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.semaphore.state();
        let reclaimable = state.reclaimable.remove(&self.seq);
        state.release(self.client, self.amount);
        drop(state);
        // This may drop the holder, which may hold permits itself, so it must not happen under the lock.
        drop(reclaimable);
        self.semaphore.serve_waiting();
    }
}

impl fmt::Debug for FairSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, resource) = (self.state(), self.0.resource);
        let (available, total, waiting) = (state.available(), state.total, state.round_robin.len());
        write!(f, "{resource} ({available} of {total} available, {waiting} clients wait)")
    }
}
