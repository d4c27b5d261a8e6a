//! Adding a path to nix-daemon's store.
//!
//! All steps are on one connection, because temporary GC roots last as long as that: the path and its references get theirs
//! first, so that the garbage collector deletes none of them from the first check to the last step.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use harmonia_protocol::client::Upload;
use harmonia_protocol::error::Phase;
use harmonia_protocol::operation::{AddIndirectRoot, AddTempRoot, Opcode, QueryPathInfo, QueryValidPaths};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::{ClientError, StorePath};
use tokio::io::{AsyncRead, ReadBuf};

use crate::fairness::ClientId;
use crate::metrics::Outcome;
use crate::store::daemon::connections::PooledClient;
use crate::store::daemon::deadline::Deadline;
use crate::store::error::StoreError;
use crate::store::state::Store;

/// Reason why a path was not added.
#[derive(Debug)]
pub(crate) enum AddError {
    /// nix-daemon refused it with this message.
    Refused(String),
    /// The reader of its NAR failed; the reader knows why.
    Source,
    /// nix-daemon is not available, or its reply is malformed.
    Store(StoreError),
}

/// A connection that protects one path and its references while the path is added.
///
/// Dropping it during an operation closes the connection; nix-daemon adds nothing of an incomplete NAR.
#[derive(Debug)]
pub(crate) struct Adding<'a> {
    store: &'a Store,
    path: &'a StorePath,
    references: &'a [StorePath],
    connection: PooledClient,
}

impl Store {
    /// Acquires a connection for NARs, and protects a path and its references from the garbage collector.
    pub(crate) async fn begin_add<'a>(
        &'a self,
        path: &'a StorePath,
        references: &'a [StorePath],
        client: ClientId,
    ) -> Result<Adding<'a>, StoreError> {
        match self.begin_add_once(path, references, client).await {
            // The connection was open and unused for some time.
            Err(error) if error.is_retryable() => {
                self.pool.close_idle_nar_connections();
                self.begin_add_once(path, references, client).await
            }
            result => result,
        }
    }

    async fn begin_add_once<'a>(
        &'a self,
        path: &'a StorePath,
        references: &'a [StorePath],
        client: ClientId,
    ) -> Result<Adding<'a>, StoreError> {
        let mut connection = self.pool.nar_connection(client).await?;
        let roots: Vec<_> = std::iter::once(path).chain(references).map(AddTempRoot).collect();
        for reply in self.pool.call_all(&mut connection, &roots).await? {
            let during = Phase::Operation(Opcode::AddTempRoot);
            reply.map_err(|error| ClientError::Daemon { during, error })?;
        }
        Ok(Adding { store: self, path, references, connection })
    }
}

impl Adding<'_> {
    /// Returns the path info that nix-daemon has of the path, or `None` if it is not valid.
    pub(crate) async fn path_info(&mut self) -> Result<Option<PathInfo>, StoreError> {
        self.store.pool.call_on(&mut self.connection, &QueryPathInfo(self.path)).await
    }

    /// Returns the first reference that is not valid or is in `unseen`, other than the path itself. Takes the same query whichever
    /// it is.
    pub(crate) async fn missing_reference(&mut self, unseen: &[StorePath]) -> Result<Option<StorePath>, StoreError> {
        let others: Vec<_> = self.references.iter().filter(|it| *it != self.path).cloned().collect();
        if others.is_empty() {
            return Ok(None);
        }
        let valid = self.store.pool.call_on(&mut self.connection, &QueryValidPaths(&others)).await?;
        let valid: HashSet<_> = valid.into_iter().collect();
        Ok(others.into_iter().find(|other| !valid.contains(other) || unseen.contains(other)))
    }

    /// Adds the path with the bytes that `nar` reads. nix-daemon checks signatures, even if it trusts this user.
    ///
    /// There is no deadline for the whole NAR, but one for each step of it.
    pub(crate) async fn add<R: AsyncRead + Unpin>(&mut self, info: &PathInfo, nar: R) -> Result<(), AddError> {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = CountedReader { nar, steps: Arc::clone(&steps) };
        let upload = Upload { path: self.path, info, nar: counted };
        let check_signatures = true;
        let mut adding = Box::pin(self.connection.add_to_store_nar(upload, check_signatures));
        let result = loop {
            let before = steps.load(Ordering::Relaxed);
            match tokio::time::timeout(Deadline::StoreAdd.duration(), &mut adding).await {
                Ok(result) => break result.map_err(AddError::of),
                Err(_) if steps.load(Ordering::Relaxed) == before => {
                    break Err(AddError::Store(StoreError::Timeout(Deadline::StoreAdd)));
                }
                Err(_) => {}
            }
        };
        drop(adding);
        let outcome = match &result {
            Ok(()) => Outcome::Ok,
            Err(AddError::Store(StoreError::Timeout(_))) => Outcome::Timeout,
            Err(_) => Outcome::Error,
        };
        self.store.metrics.daemon.record_operation(Opcode::AddToStoreNar, outcome);
        // What was cached of an earlier path with this hash part.
        self.store.path_infos.forget(self.path);
        result
    }

    /// Makes nix-daemon remember a symlink, whose target the garbage collector keeps.
    pub(crate) async fn add_indirect_root(&mut self, symlink: &Path) -> Result<(), StoreError> {
        let symlink = symlink.as_os_str().as_bytes();
        self.store.pool.call_on(&mut self.connection, &AddIndirectRoot(symlink)).await
    }
}

impl AddError {
    fn of(error: ClientError) -> Self {
        match error {
            ClientError::Daemon { error, .. } => Self::Refused(error.message().to_owned()),
            ClientError::Source(_) => Self::Source,
            error => Self::Store(error.into()),
        }
    }
}

/// Reader that counts the times that it was read from.
struct CountedReader<R> {
    nar: R,
    steps: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for CountedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.nar).poll_read(context, into);
        if read.is_ready() {
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}
