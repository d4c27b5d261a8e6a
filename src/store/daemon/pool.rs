//! Connections that are kept and reused: some for questions, others for NARs, each with its own bound, so that
//! downloads never stand in the way of narinfos. Those who wait are served fairly, and a client that takes little of a NAR
//! loses its connection to them.
//!
//! A connection comes back into use only if its client says that it is in step and silent, and is neither old (a
//! daemon process outlives the upgrade of its parent) nor was idle for long (each is a process on the host).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{
    self, BuildError, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, WeakPool,
};
use harmonia_protocol::StorePath;
use harmonia_protocol::client::{Client as DaemonClient, NarStream};
use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::{Opcode, Operation};
use harmonia_protocol::session::Session;
use harmonia_protocol::signature_set::KnownKeys;
use harmonia_protocol::stderr::DaemonError;
use tokio::sync::{mpsc, watch};

use crate::fairness::ClientId;
use crate::fairness::{FairSemaphore, Permit};
use crate::metrics::{self, Occupancy, Outcome, PoolName};
use crate::process::supervisor::supervise;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::dialer::Dialer;
use crate::store::daemon::outage::{Outage, Uptime};
use crate::store::daemon::transport::Transport;
use crate::store::error::StoreError;
use crate::store::error::outcome;

/// How long a connection may be unused.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// How long a connection may be kept in all.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(15);

/// A connection on loan.
#[derive(Debug)]
pub(crate) struct PooledClient {
    // First: it is there again when its place is.
    connection: Object<Manager>,
    place: Permit,
}

impl PooledClient {
    /// Its place among the connections.
    pub(crate) const fn permit(&self) -> &Permit {
        &self.place
    }
}

impl Deref for PooledClient {
    type Target = DaemonClient<Transport>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl DerefMut for PooledClient {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

/// Makes and checks connections for deadpool.
#[derive(Debug)]
pub(crate) struct Manager(Arc<Dialer>);

impl managed::Manager for Manager {
    type Type = DaemonClient<Transport>;
    type Error = StoreError;

    async fn create(&self) -> Result<DaemonClient<Transport>, StoreError> {
        // Boxed: dialling is rare, and its state would lie in the future of every request.
        let mut client = Box::pin(self.0.dial()).await?;
        client.set_known_keys(self.0.known_keys());
        Ok(client)
    }

    async fn recycle(&self, client: &mut DaemonClient<Transport>, metrics: &Metrics) -> RecycleResult<StoreError> {
        client.set_known_keys(self.0.known_keys());
        if client.is_idle() && is_fresh(*metrics) { Ok(()) } else { Err(RecycleError::message("out of use")) }
    }
}

fn is_fresh(metrics: Metrics) -> bool {
    metrics.age() < MAX_AGE && metrics.last_used() < MAX_IDLE
}

/// All connections to one daemon.
#[derive(Debug)]
pub(crate) struct Pool {
    dialer: Arc<Dialer>,
    metadata: Connections,
    nars: Connections,
    metrics: Arc<metrics::Metrics>,
}

impl Pool {
    pub(crate) fn new(
        dialer: &Arc<Dialer>,
        max_questions: usize,
        max_nars: usize,
        metrics: Arc<metrics::Metrics>,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            dialer: Arc::clone(dialer),
            metadata: Connections::new(dialer, max_questions, "daemon_connection", Deadline::FreeConnection, &metrics)?,
            nars: Connections::new(dialer, max_nars, "nar_stream", Deadline::FreeNarStream, &metrics)?,
            metrics,
        })
    }

    /// Asks one question for a client.
    pub(crate) async fn call<O: Operation>(&self, client: ClientId, operation: &O) -> Result<O::Reply, StoreError> {
        let place = self.metadata.place(self.metadata.places.acquire(client, 1)).await?;
        Questions { connection: None, pool: self, _place: place }.call(operation).await
    }

    /// Waits for the turn of whichever of these clients is first, to ask questions for all of them.
    pub(crate) async fn metadata_for_any(
        &self,
        clients: mpsc::UnboundedReceiver<ClientId>,
    ) -> Result<Questions<'_>, StoreError> {
        let place = self.metadata.place(self.metadata.places.acquire_for_any(clients, 1)).await?;
        Ok(Questions { connection: None, pool: self, _place: place })
    }

    /// Asks one question on this connection.
    pub(crate) async fn call_on<O: Operation>(
        &self,
        connection: &mut DaemonClient<Transport>,
        operation: &O,
    ) -> Result<O::Reply, StoreError> {
        let result = Deadline::Daemon(Phase::Operation(O::OPCODE)).enforce(connection.call(operation)).await;
        if !matches!(result, Err(StoreError::Unsupported(_))) {
            self.metrics.operation(O::OPCODE, outcome(&result));
        }
        result
    }

    /// Keeps signatures of these keys before those of others from now on.
    pub(crate) fn set_known_keys(&self, keys: Arc<KnownKeys>) {
        self.dialer.set_known_keys(keys);
    }

    /// A connection that belongs to no pool.
    pub(crate) async fn dial(&self) -> Result<DaemonClient<Transport>, StoreError> {
        Box::pin(self.dialer.dial()).await
    }

    /// A connection for questions that nobody waits for: one only if another stays free, looked for at most `attempts`
    /// times with a pause in between.
    pub(crate) async fn acquire_idle(&self, attempts: usize, pause: Duration) -> Result<PooledClient, StoreError> {
        for _ in 0..attempts {
            if self.metadata.places.available() > 1 {
                let loan = self.metadata.loan(ClientId::Server).await?;
                // Others may have come while this one was made.
                if self.metadata.places.available() > 0 {
                    return Ok(loan);
                }
            }
            tokio::time::sleep(pause).await;
        }
        Err(StoreError::Timeout(Deadline::FreeConnection))
    }

    /// Asks many questions at once; the replies are in their order.
    pub(crate) async fn call_all<O: Operation>(
        &self,
        connection: &mut DaemonClient<Transport>,
        operations: &[O],
    ) -> Result<Vec<Result<O::Reply, DaemonError>>, StoreError> {
        let step = Deadline::Daemon(Phase::Operation(O::OPCODE));
        let replies = step.enforce(connection.pipeline(operations)).await;
        match &replies {
            Ok(replies) => {
                for reply in replies {
                    self.metrics.operation(O::OPCODE, if reply.is_ok() { Outcome::Ok } else { Outcome::Error });
                }
            }
            Err(_) => self.metrics.operation(O::OPCODE, outcome(&replies)),
        }
        replies
    }

    /// Begins a NAR for a client, retried in the same way.
    pub(crate) async fn nar(
        &self,
        client: ClientId,
        path: &StorePath,
        size: u64,
    ) -> Result<NarStream<PooledClient, Transport>, StoreError> {
        match self.nar_once(client, path, size).await {
            Err(error) if error.is_retryable() => {
                self.nars.discard_idle();
                self.nar_once(client, path, size).await
            }
            result => result,
        }
    }

    async fn nar_once(
        &self,
        client: ClientId,
        path: &StorePath,
        size: u64,
    ) -> Result<NarStream<PooledClient, Transport>, StoreError> {
        let opened = NarStream::open(self.nars.loan(client).await?, path, size);
        let result = Deadline::Daemon(Phase::Operation(Opcode::NarFromPath)).enforce(opened).await;
        self.metrics.operation(Opcode::NarFromPath, outcome(&result));
        result
    }

    /// Enters how the pools are used now.
    pub(crate) fn record(&self) {
        for (name, connections) in [(PoolName::Questions, &self.metadata), (PoolName::Nars, &self.nars)] {
            let deadpool::Status { max_size, size, available, .. } = connections.pool.status();
            let in_use = size.saturating_sub(available);
            let waiting = connections.places.waiting();
            self.metrics.pool(name, Occupancy { max_size, size, in_use, waiting });
        }
    }

    /// Tells whether connections can be made.
    pub(crate) fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.dialer.outage()
    }

    /// The daemon that was last connected to.
    pub(crate) fn uptime(&self) -> Option<Uptime> {
        self.dialer.uptime()
    }

    /// Why no connection can be made, if the last attempt failed; it may be one of several before a dial gives up.
    pub(crate) fn last_error(&self) -> Option<StoreError> {
        self.dialer.last_error()
    }

    /// How many wait for a connection for questions.
    #[cfg(test)]
    pub(crate) fn waiting_for_metadata(&self) -> usize {
        self.metadata.places.waiting()
    }

    pub(crate) async fn session(&self) -> Result<Session, StoreError> {
        Ok(self.metadata.loan(ClientId::Server).await?.session().clone())
    }
}

/// A turn, in which questions are asked one after the other.
pub(crate) struct Questions<'p> {
    // First: it is there again when its place is.
    connection: Option<Object<Manager>>,
    pool: &'p Pool,
    _place: Permit,
}

impl Questions<'_> {
    /// Asks one question. If the connection turns out to be dead before a byte of the reply has come, the question is
    /// asked once more on a fresh one: none of the operations of a cache does anything twice.
    pub(crate) async fn call<O: Operation>(&mut self, operation: &O) -> Result<O::Reply, StoreError> {
        match self.call_once(operation).await {
            Err(error) if error.is_retryable() => {
                self.pool.metadata.discard_idle();
                self.call_once(operation).await
            }
            result => result,
        }
    }

    async fn call_once<O: Operation>(&mut self, operation: &O) -> Result<O::Reply, StoreError> {
        // One that is out of step makes way first, since there are no more than places.
        self.connection.take_if(|connection| !connection.is_idle());
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.pool.metadata.connection().await?),
        };
        self.pool.call_on(connection, operation).await
    }
}

/// Connections that are shared by the same rule.
#[derive(Debug)]
struct Connections {
    pool: managed::Pool<Manager>,
    /// As many as connections: whoever has one need not wait for the pool.
    places: FairSemaphore,
    wait: Deadline,
}

impl Connections {
    fn new(
        dialer: &Arc<Dialer>,
        max_size: usize,
        what: &'static str,
        wait: Deadline,
        metrics: &metrics::Metrics,
    ) -> Result<Self, BuildError> {
        let mut config = managed::PoolConfig::new(max_size);
        // The last one used is used next: those that are not needed grow idle and are closed.
        config.queue_mode = QueueMode::Lifo;
        let pool = managed::Pool::builder(Manager(Arc::clone(dialer))).config(config).build()?;
        let swept = Arc::new(pool.weak());
        supervise("idle connections", move || sweep(Arc::clone(&swept)));
        Ok(Self { pool, places: FairSemaphore::new(what, max_size, metrics), wait })
    }

    async fn loan(&self, client: ClientId) -> Result<PooledClient, StoreError> {
        let place = self.place(self.places.acquire(client, 1)).await?;
        Ok(PooledClient { connection: self.connection().await?, place })
    }

    /// Waits for a place, but not for long.
    async fn place(&self, taking: impl Future<Output = Permit>) -> Result<Permit, StoreError> {
        let place = tokio::time::timeout(self.wait.duration(), taking).await;
        place.map_err(|_| StoreError::Timeout(self.wait))
    }

    /// A connection for who has a place.
    async fn connection(&self) -> Result<Object<Manager>, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => StoreError::Timeout(self.wait),
        })
    }

    /// Where one idle connection has died, the others have: the daemon was restarted.
    fn discard_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// Closes connections that have been idle or kept for too long, for as long as the pool exists.
async fn sweep(pool: Arc<WeakPool<Manager>>) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.retain(|_, metrics| is_fresh(metrics));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn metrics(age: Duration, idle: Duration) -> Metrics {
        let before = |time| Instant::now().checked_sub(time).unwrap();
        Metrics { created: before(age), recycled: Some(before(idle)), recycle_count: 1 }
    }

    #[test]
    fn old_and_idle_connections_are_not_used_again() {
        let second = Duration::from_secs(1);
        assert!(is_fresh(metrics(MAX_AGE / 2, MAX_IDLE / 2)));
        assert!(!is_fresh(metrics(MAX_AGE, second)));
        assert!(!is_fresh(metrics(MAX_IDLE, MAX_IDLE)));
    }
}
