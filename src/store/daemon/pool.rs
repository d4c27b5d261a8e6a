//! The pool of connections to nix-daemon: some for metadata, others for NARs, so that downloads never delay narinfos.
//!
//! Waiting clients are served fairly, and a client that reads its NAR slowly loses its connection to them.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::StorePath;
use harmonia_protocol::client::{Client as DaemonClient, NarStream};
use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::{Opcode, Operation};
use harmonia_protocol::session::Session;
use harmonia_protocol::signature_set::KnownKeys;
use harmonia_protocol::stderr::DaemonError;
use tokio::sync::{mpsc, watch};

use crate::fairness::{ClientId, Permit};
use crate::metrics::{Metrics, Outcome, PoolName};
use crate::store::daemon::connections::{Connections, PooledClient, UsedConnection};
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::dialer::Dialer;
use crate::store::daemon::outage::{Outage, Uptime};
use crate::store::daemon::transport::Transport;
use crate::store::error::{StoreError, outcome};

/// All connections to one nix-daemon.
#[derive(Debug)]
pub(crate) struct Pool {
    dialer: Arc<Dialer>,
    metadata: Connections,
    nars: Connections,
    metrics: Arc<Metrics>,
}

impl Pool {
    /// Creates a pool without connections. Must be called in a runtime.
    pub(crate) fn new(dialer: &Arc<Dialer>, max_metadata: usize, max_nars: usize, metrics: Arc<Metrics>) -> Self {
        let new = |max, resource, deadline| Connections::new(dialer, max, resource, deadline, &metrics);
        Self {
            metadata: new(max_metadata, "daemon_connection", Deadline::FreeConnection),
            nars: new(max_nars, "nar_stream", Deadline::FreeNarStream),
            dialer: Arc::clone(dialer),
            metrics,
        }
    }

    /// Returns whether there is a nix-daemon.
    pub(crate) fn has_daemon(&self) -> bool {
        self.dialer.has_daemon()
    }

    /// Executes one operation for a client.
    pub(crate) async fn call<O: Operation>(&self, client: ClientId, operation: &O) -> Result<O::Reply, StoreError> {
        let permit = self.metadata.permit(self.metadata.permits().acquire(client, 1)).await?;
        MetadataClient { connection: None, pool: self, _permit: permit }.call(operation).await
    }

    /// Waits until the first of these clients has its turn. The result executes operations for all of them.
    pub(crate) async fn metadata_for_any(
        &self,
        clients: mpsc::UnboundedReceiver<ClientId>,
    ) -> Result<MetadataClient<'_>, StoreError> {
        let permit = self.metadata.permit(self.metadata.permits().acquire_for_any(clients, 1)).await?;
        Ok(MetadataClient { connection: None, pool: self, _permit: permit })
    }

    /// Executes one operation on this connection.
    pub(crate) async fn call_on<O: Operation>(
        &self,
        connection: &mut DaemonClient<Transport>,
        operation: &O,
    ) -> Result<O::Reply, StoreError> {
        let result = Deadline::Daemon(Phase::Operation(O::OPCODE)).enforce(connection.call(operation)).await;
        if !matches!(result, Err(StoreError::Unsupported(_))) {
            self.metrics.daemon.record_operation(O::OPCODE, outcome(&result));
        }
        result
    }

    /// Prefers signatures of these keys where a path has more than are kept.
    pub(crate) fn set_known_keys(&self, keys: Arc<KnownKeys>) {
        self.dialer.set_known_keys(keys);
    }

    /// Opens a connection that does not belong to the pool.
    pub(crate) async fn dial(&self) -> Result<DaemonClient<Transport>, StoreError> {
        Box::pin(self.dialer.dial()).await
    }

    /// Acquires a connection for background work, but only if another one stays free. Tries at most `attempts` times, with
    /// a pause in between.
    pub(crate) async fn acquire_idle(&self, attempts: usize, pause: Duration) -> Result<PooledClient, StoreError> {
        for _ in 0..attempts {
            if self.metadata.permits().available() > 1 {
                let client = self.metadata.acquire(ClientId::Server).await?;
                // Others may have come while the connection was opened.
                if self.metadata.permits().available() > 0 {
                    return Ok(client);
                }
            }
            tokio::time::sleep(pause).await;
        }
        Err(StoreError::Timeout(Deadline::FreeConnection))
    }

    /// Executes many operations in one pipeline. Replies are in the order of the operations.
    pub(crate) async fn call_all<O: Operation>(
        &self,
        connection: &mut DaemonClient<Transport>,
        operations: &[O],
    ) -> Result<Vec<Result<O::Reply, DaemonError>>, StoreError> {
        let deadline = Deadline::Daemon(Phase::Operation(O::OPCODE));
        let replies = deadline.enforce(connection.pipeline(operations)).await;
        match &replies {
            Ok(replies) => {
                for reply in replies {
                    self.metrics
                        .daemon
                        .record_operation(O::OPCODE, if reply.is_ok() { Outcome::Ok } else { Outcome::Error });
                }
            }
            Err(_) => self.metrics.daemon.record_operation(O::OPCODE, outcome(&replies)),
        }
        replies
    }

    /// Starts to dump a NAR of `size` bytes for a client. Retries once on a fresh connection, as [`MetadataClient::call`].
    pub(crate) async fn nar(
        &self,
        client: ClientId,
        path: &StorePath,
        size: u64,
    ) -> Result<NarStream<PooledClient, Transport>, StoreError> {
        match self.nar_once(client, path, size).await {
            Err(error) if error.is_retryable() => {
                self.nars.close_idle();
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
        let opened = NarStream::open(self.nars.acquire(client).await?, path, size);
        let result = Deadline::Daemon(Phase::Operation(Opcode::NarFromPath)).enforce(opened).await;
        self.metrics.daemon.record_operation(Opcode::NarFromPath, outcome(&result));
        result
    }

    /// Acquires a connection for a NAR that a client sends.
    pub(crate) async fn nar_connection(&self, client: ClientId) -> Result<PooledClient, StoreError> {
        self.nars.acquire(client).await
    }

    /// Closes idle connections for NARs, after one of them turned out to be dead.
    pub(crate) fn close_idle_nar_connections(&self) {
        self.nars.close_idle();
    }

    /// Updates the metrics of both kinds of connections.
    pub(crate) fn record(&self) {
        for (name, connections) in [(PoolName::Metadata, &self.metadata), (PoolName::Nar, &self.nars)] {
            self.metrics.daemon.set_pool_usage(name, connections.occupancy());
        }
    }

    /// Returns the outage, if the last attempt to connect failed, and its changes.
    pub(crate) fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.dialer.outage()
    }

    /// Returns the nix-daemon that was last connected to, if there was one.
    pub(crate) fn uptime(&self) -> Option<Uptime> {
        self.dialer.uptime()
    }

    /// Returns the error of the last attempt to connect, if it failed. The dial that made it may still be retrying.
    pub(crate) fn last_error(&self) -> Option<StoreError> {
        self.dialer.last_error()
    }

    /// Returns how many clients wait for a metadata connection.
    #[cfg(test)]
    pub(crate) fn waiting_for_metadata(&self) -> usize {
        self.metadata.permits().waiting()
    }

    /// Returns the session of an open connection, opening one if necessary.
    pub(crate) async fn session(&self) -> Result<Session, StoreError> {
        Ok(self.metadata.acquire(ClientId::Server).await?.session().clone())
    }
}

/// Executes operations one after the other, all on one connection as long as it works.
pub(crate) struct MetadataClient<'p> {
    // Dropped first: whoever gets the permit finds the slot free.
    connection: Option<UsedConnection>,
    pool: &'p Pool,
    _permit: Permit,
}

impl MetadataClient<'_> {
    /// Executes one operation. If the connection closes before a byte of the reply has come, retries once on a fresh one:
    /// every operation of a cache may be repeated.
    pub(crate) async fn call<O: Operation>(&mut self, operation: &O) -> Result<O::Reply, StoreError> {
        match self.call_once(operation).await {
            Err(error) if error.is_retryable() => {
                self.pool.metadata.close_idle();
                self.call_once(operation).await
            }
            result => result,
        }
    }

    async fn call_once<O: Operation>(&mut self, operation: &O) -> Result<O::Reply, StoreError> {
        // A broken connection has to free its slot first: there are no more slots than permits.
        self.connection.take_if(|connection| !connection.is_idle());
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.pool.metadata.connection().await?),
        };
        self.pool.call_on(connection, operation).await
    }
}
