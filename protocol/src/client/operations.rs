//! Sending operations, one at a time or pipelined, and a method for each of them.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Client;
use super::exchange::Exchange;
use crate::derivation_output::{DerivationOutput, OutputName};
use crate::error::{ClientError, Phase};
use crate::operation::{
    AddIndirectRoot, AddTempRoot, DerivedPath, EnsurePath, FindRoots, IsValidPath, Missing, Operation,
    QueryAllValidPaths, QueryDerivationOutputMap, QueryMissing, QueryPathFromHashPart, QueryPathInfo, QueryRealisation,
    QueryReferrers, QueryValidDerivers, QueryValidPaths, Root,
};
use crate::path_info::PathInfo;
use crate::realisation::Realisation;
use crate::stderr::DaemonError;
use crate::store_path::{HashPart, StorePath};

/// Most bytes of requests without a reply on one connection. nix-daemon does not read while it writes; both sides would
/// block at about 210 KiB (measured on seven releases). Half of it is sent at a time: the kernel accounts most of a
/// kilobyte for a small write, and one write for each request would exceed the limit of the socket.
const PIPELINE_WINDOW: usize = 32 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends one operation and reads its reply.
    ///
    /// Dropping the future closes the connection, as does any error except [`ClientError::Unsupported`], for which
    /// nothing is sent, and [`ClientError::Daemon`] where the operation [survives
    /// it](crate::operation::Opcode::survives_error).
    pub async fn call<O: Operation>(&mut self, operation: &O) -> Result<O::Reply, ClientError> {
        let during = Phase::Operation(O::OPCODE);
        let mut exchange = Exchange::begin(self, during)?;
        if let Err(unsupported) = exchange.request(operation) {
            // Nothing has been sent.
            exchange.finish();
            return Err(unsupported.into());
        }
        exchange.send().await?;
        match exchange.reply(operation).await? {
            Ok(reply) => {
                exchange.finish();
                Ok(reply)
            }
            Err(error) => {
                if O::OPCODE.survives_error() {
                    exchange.finish();
                }
                Err(ClientError::Daemon { during, error })
            }
        }
    }

    /// Sends many operations without waiting for each reply, and returns the replies in the same order.
    ///
    /// At most 32 KiB of requests are without a reply at any time. An error that nix-daemon reports for one operation
    /// does not affect the others. Dropping the future closes the connection, as does any error that this method returns
    /// after something was sent.
    pub async fn pipeline<O: Operation>(
        &mut self,
        operations: &[O],
    ) -> Result<Vec<Result<O::Reply, DaemonError>>, ClientError> {
        let during = Phase::Operation(O::OPCODE);
        let mut exchange = Exchange::begin(self, during)?;
        let mut replies = Vec::with_capacity(operations.len());
        let mut sizes = Vec::with_capacity(operations.len());
        let mut unanswered = 0;
        for operation in operations {
            if unanswered >= PIPELINE_WINDOW {
                exchange.send().await?;
                while unanswered > PIPELINE_WINDOW / 2 {
                    unanswered -= sizes[replies.len()];
                    replies.push(exchange.reply(&operations[replies.len()]).await?);
                }
            }
            let size = match exchange.request(operation) {
                Ok(size) => size,
                Err(unsupported) => {
                    let nothing_sent = sizes.is_empty();
                    if nothing_sent {
                        exchange.finish();
                    }
                    return Err(unsupported.into());
                }
            };
            sizes.push(size);
            unanswered += size;
        }
        exchange.send().await?;
        while replies.len() < operations.len() {
            replies.push(exchange.reply(&operations[replies.len()]).await?);
        }
        if O::OPCODE.survives_error() || replies.iter().all(Result::is_ok) {
            exchange.finish();
        }
        Ok(replies)
    }

    /// Returns whether `path` is valid.
    pub async fn is_valid_path(&mut self, path: &StorePath) -> Result<bool, ClientError> {
        self.call(&IsValidPath(path)).await
    }

    /// Returns the path info of `path`, or `None` if it is not valid.
    pub async fn query_path_info(&mut self, path: &StorePath) -> Result<Option<PathInfo>, ClientError> {
        self.call(&QueryPathInfo(path)).await
    }

    /// Returns the valid path that has this hash part, or `None` if there is none.
    pub async fn query_path_from_hash_part(&mut self, hash: HashPart) -> Result<Option<StorePath>, ClientError> {
        self.call(&QueryPathFromHashPart(hash)).await
    }

    /// Returns those of `paths` that are valid, without substitution.
    pub async fn query_valid_paths(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryValidPaths(paths)).await
    }

    /// Returns the valid paths that refer to `path`.
    pub async fn query_referrers(&mut self, path: &StorePath) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryReferrers(path)).await
    }

    /// Returns the valid derivations that have `path` as an output.
    pub async fn query_valid_derivers(&mut self, path: &StorePath) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryValidDerivers(path)).await
    }

    /// Returns every valid path: tens of megabytes on a large store.
    pub async fn query_all_valid_paths(&mut self) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryAllValidPaths).await
    }

    /// Returns the outputs of `derivation`, with their paths where they are known.
    ///
    /// Fails with [`ClientError::Daemon`] if the derivation is not valid. Nix 2.8 closes the connection over a path that
    /// is not a derivation.
    pub async fn query_derivation_output_map(
        &mut self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>, ClientError> {
        self.call(&QueryDerivationOutputMap(derivation)).await
    }

    /// Returns the realisation of `output`, or `None` if there is none.
    ///
    /// Fails with [`ClientError::Unsupported`] if nix-daemon does not understand this form of an output.
    pub async fn query_realisation(&mut self, output: &DerivationOutput) -> Result<Option<Realisation>, ClientError> {
        self.call(&QueryRealisation(output)).await
    }

    /// Returns the builds and downloads that making `paths` valid takes.
    pub async fn query_missing(&mut self, paths: &[DerivedPath]) -> Result<Missing, ClientError> {
        self.call(&QueryMissing(paths)).await
    }

    /// Protects `path` from the garbage collector until this connection ends.
    pub async fn add_temp_root(&mut self, path: &StorePath) -> Result<(), ClientError> {
        self.call(&AddTempRoot(path)).await
    }

    /// Makes nix-daemon remember the symlink at an absolute path, whose target the garbage collector keeps.
    pub async fn add_indirect_root(&mut self, symlink: &[u8]) -> Result<(), ClientError> {
        self.call(&AddIndirectRoot(symlink)).await
    }

    /// Makes `path` valid by substitution if it is not.
    pub async fn ensure_path(&mut self, path: &StorePath) -> Result<(), ClientError> {
        self.call(&EnsurePath(path)).await
    }

    /// Returns the roots of the garbage collector.
    pub async fn find_roots(&mut self) -> Result<Vec<Root>, ClientError> {
        self.call(&FindRoots).await
    }
}
