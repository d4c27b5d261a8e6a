//! Connections of one kind: kept open between uses, and at most as many as there are permits.
//!
//! A pool library would bring a queue of its own, which nobody would ever wait in: the permits of the [`FairSemaphore`] are
//! the queue, and whoever has one finds a free slot. A slot is locked while its connection is in use. Slots are tried in their
//! order, so that those that are not needed become idle and are closed.
//!
//! A connection is used again only if it is between two operations and silent, not old (a nix-daemon process outlives the
//! upgrade of its parent), and was not idle for long (each is a process on the host).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::client::Client as DaemonClient;
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::Instant;

use crate::fairness::{ClientId, FairSemaphore, Permit};
use crate::metrics::{Metrics, PoolUsage};
use crate::process::supervisor::supervise;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::dialer::Dialer;
use crate::store::daemon::transport::Transport;
use crate::store::error::StoreError;
use crate::sync::Mutex;

/// Upper bound of the time that a connection may be unused.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// Upper bound of the age of a connection when it is used again.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// Interval at which old and idle connections are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// A connection that is in use. Dropping it gives it back.
pub(crate) type UsedConnection = OwnedMappedMutexGuard<Option<Connection>, DaemonClient<Transport>>;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    client: DaemonClient<Transport>,
    opened: Instant,
    last_used: Instant,
}

impl Connection {
    fn is_usable(&mut self) -> bool {
        self.opened.elapsed() < MAX_AGE && self.last_used.elapsed() < MAX_IDLE && self.client.is_idle()
    }
}

/// A connection in use, with its permit.
#[derive(Debug)]
pub(crate) struct PooledClient {
    // Dropped first: whoever gets the permit finds the slot free.
    connection: UsedConnection,
    permit: Permit,
}

impl PooledClient {
    /// Returns the permit for one connection.
    pub(crate) const fn permit(&self) -> &Permit {
        &self.permit
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

/// The connections of one kind, and the permits to use them.
#[derive(Debug)]
pub(crate) struct Connections {
    dialer: Arc<Dialer>,
    slots: Slots,
    permits: FairSemaphore,
    /// Deadline of waiting for a permit.
    deadline: Deadline,
}

impl Connections {
    /// Creates `max_size` slots without connections, and starts the task that closes idle ones. Must be called in a runtime.
    pub(crate) fn new(
        dialer: &Arc<Dialer>,
        max_size: usize,
        resource: &'static str,
        deadline: Deadline,
        metrics: &Metrics,
    ) -> Self {
        let slots = Slots::new(max_size);
        let swept = slots.clone();
        supervise("idle connections", move || swept.clone().sweep());
        Self { dialer: Arc::clone(dialer), slots, permits: FairSemaphore::new(resource, max_size, metrics), deadline }
    }

    /// Returns the permits, of which each connection in use takes one.
    pub(crate) const fn permits(&self) -> &FairSemaphore {
        &self.permits
    }

    /// Waits for a permit and returns a connection, opening one if necessary.
    pub(crate) async fn acquire(&self, client: ClientId) -> Result<PooledClient, StoreError> {
        let permit = self.permit(self.permits.acquire(client, 1)).await?;
        Ok(PooledClient { connection: self.connection().await?, permit })
    }

    /// Waits for a permit up to the deadline.
    pub(crate) async fn permit(&self, acquiring: impl Future<Output = Permit>) -> Result<Permit, StoreError> {
        let permit = tokio::time::timeout(self.deadline.duration(), acquiring).await;
        permit.map_err(|_| StoreError::Timeout(self.deadline))
    }

    /// Returns a connection to the holder of a permit, opening one if necessary.
    pub(crate) async fn connection(&self) -> Result<UsedConnection, StoreError> {
        let slot = match self.slots.take() {
            Ok(mut client) => {
                client.set_known_keys(self.dialer.known_keys());
                return Ok(client);
            }
            // Every permit has a slot, so there is one.
            Err(slot) => slot.ok_or(StoreError::Timeout(self.deadline))?,
        };
        // Boxed: a connection is opened rarely, and this state would lie in the future of every request.
        let mut client = Box::pin(self.dialer.dial()).await?;
        client.set_known_keys(self.dialer.known_keys());
        let now = Instant::now();
        let connection = Connection { client, opened: now, last_used: now };
        Ok(OwnedMutexGuard::map(slot, |slot| &mut slot.insert(connection).client))
    }

    /// Closes all idle connections. Where one has died the others have too: nix-daemon was restarted.
    pub(crate) fn close_idle(&self) {
        self.slots.close_idle_if(|_| true);
    }

    /// Returns how many connections there are, how many are in use, and how many clients wait.
    pub(crate) fn occupancy(&self) -> PoolUsage {
        let (size, in_use) = self.slots.count();
        PoolUsage { max_size: self.slots.slots.len(), size, in_use, waiting: self.permits.waiting() }
    }
}

/// Slots for connections.
#[derive(Debug, Clone)]
struct Slots {
    slots: Arc<[Arc<tokio::sync::Mutex<Option<Connection>>>]>,
    /// Held while slots are tried, so that a slot which is not in use is never found locked.
    scan: Arc<Mutex<()>>,
}

impl Slots {
    fn new(count: usize) -> Self {
        Self { slots: (0..count).map(|_| Arc::default()).collect(), scan: Arc::default() }
    }

    /// Takes the first usable connection, or else a slot for a new one. `Err(None)` if all are in use.
    fn take(&self) -> Result<UsedConnection, Option<OwnedMutexGuard<Option<Connection>>>> {
        let _scan = self.scan.lock();
        let mut free = None;
        for slot in &*self.slots {
            let Ok(slot) = Arc::clone(slot).try_lock_owned() else { continue };
            let usable = OwnedMutexGuard::try_map(slot, |slot| {
                let connection = slot.as_mut()?;
                let is_usable = connection.is_usable();
                connection.last_used = Instant::now();
                is_usable.then_some(&mut connection.client)
            });
            match usable {
                Ok(client) => return Ok(client),
                Err(mut slot) => {
                    *slot = None;
                    free.get_or_insert(slot);
                }
            }
        }
        Err(free)
    }

    fn close_idle_if(&self, condition: impl Fn(&mut Connection) -> bool) {
        let _scan = self.scan.lock();
        for slot in &*self.slots {
            if let Ok(mut slot) = slot.try_lock() {
                slot.take_if(&condition);
            }
        }
    }

    /// Returns how many connections there are and how many of them are in use.
    fn count(&self) -> (usize, usize) {
        let _scan = self.scan.lock();
        let is_open = |slot: &tokio::sync::Mutex<Option<Connection>>| slot.try_lock().map(|slot| slot.is_some());
        let states: Vec<_> = self.slots.iter().map(|slot| is_open(slot)).collect();
        let in_use = states.iter().filter(|state| state.is_err()).count();
        (in_use + states.iter().filter(|state| matches!(state, Ok(true))).count(), in_use)
    }

    /// Closes connections that are old or were idle for too long, for as long as the pool exists.
    async fn sweep(self) {
        let (slots, scan) = (Arc::downgrade(&self.slots), Arc::clone(&self.scan));
        drop(self);
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            let Some(slots) = slots.upgrade() else { return };
            Self { slots, scan: Arc::clone(&scan) }.close_idle_if(|connection| !connection.is_usable());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{GREETING, bytes};

    /// A dialer of a nix-daemon that greets, and then is silent.
    fn dialer() -> (tempfile::TempDir, Arc<Dialer>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(&bytes(&GREETING)).await.unwrap();
                tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
            }
        });
        let address = crate::config::DaemonAddress::Socket(socket);
        (directory, Dialer::new(address, harmonia_protocol::StoreDir::default(), Arc::default()))
    }

    fn connections(dialer: &Arc<Dialer>) -> Connections {
        Connections::new(dialer, 2, "daemon_connection", Deadline::FreeConnection, &Metrics::default())
    }

    #[tokio::test(start_paused = true)]
    async fn old_and_idle_connections_are_closed_and_not_used_again() {
        let (_directory, dialer) = dialer();
        let connections = connections(&dialer);
        drop(connections.acquire(ClientId::Server).await.unwrap());
        assert_eq!(connections.slots.count(), (1, 0));
        tokio::time::sleep(MAX_IDLE / 2).await;
        assert!(connections.slots.take().is_ok());
        tokio::time::sleep(MAX_IDLE + SWEEP_INTERVAL).await;
        assert_eq!(connections.slots.count(), (0, 0));
        let begin = Instant::now();
        drop(connections.acquire(ClientId::Server).await.unwrap());
        while begin.elapsed() < MAX_AGE {
            assert!(connections.slots.take().is_ok());
            tokio::time::sleep(MAX_IDLE / 4).await;
        }
        assert!(connections.slots.take().is_err());
    }

    #[tokio::test]
    async fn connections_are_returned_before_their_permits() {
        let (_directory, dialer) = dialer();
        let connections = connections(&dialer);
        let one = connections.acquire(ClientId::Server).await.unwrap();
        let other = connections.acquire(ClientId::Server).await.unwrap();
        assert_eq!(connections.slots.count(), (2, 2));
        assert!(matches!(connections.slots.take(), Err(None)));
        drop(other);
        assert_eq!(connections.slots.count(), (2, 1));
        assert!(connections.slots.take().is_ok(), "the connection was not returned");
        drop(one);
        connections.close_idle();
        assert_eq!(connections.slots.count(), (0, 0));
    }
}
