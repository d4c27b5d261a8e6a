//! The client: moves the bytes of handshake, operations and NARs over any stream.
//!
//! The only module of this crate that does I/O. Its invariant: **a client is alive only while it is in step with its
//! daemon.** Every exchange takes the stream out of the client and puts it back when the reply has been read whole;
//! whatever ends the exchange otherwise (an error, a dropped future) drops the stream with it, which closes the
//! connection and ends the daemon's process behind it. Deadlines, retries and reuse are for the pool above.

mod exchange;
mod nar_stream;
mod upload;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use exchange::Exchange;
pub use nar_stream::NarStream;
pub use upload::Upload;

use crate::error::{ClientError, Phase};
use crate::handshake::{Handshake, Session};
use crate::operation::{
    AddTempRoot, DerivedPath, EnsurePath, FindRoots, IsValidPath, Missing, Operation, QueryAllValidPaths,
    QueryDerivationOutputMap, QueryMissing, QueryPathFromHashPart, QueryPathInfo, QueryRealisation, QueryReferrers,
    QueryValidDerivers, QueryValidPaths, Root,
};
use crate::path_info::PathInfo;
use crate::realisation::{DerivationOutput, OutputName, Realisation};
use crate::signature_set::KnownKeys;
use crate::stderr::DaemonError;
use crate::store_path::{HashPart, StoreDir, StorePath};

/// How many bytes of requests may be unanswered on one connection. The daemon does not read while it writes; both
/// sides would block at about 210 KiB (measured on seven releases). They are sent by the half of it: the system counts a
/// small write as most of a kilobyte, and as many of those as there are requests in this would be too much.
const PIPELINE_WINDOW: usize = 32 * 1024;

/// A connection to a nix daemon over any byte stream.
///
/// Its methods are not cancel safe in the sense that they can be resumed; they are safe to drop: a dropped call closes
/// the connection, and every later call fails with [`ClientError::AlreadyClosed`].
#[derive(Debug)]
pub struct Client<S> {
    /// Nothing while an exchange is under way, and for ever after one that was not carried through.
    stream: Option<S>,
    session: Session,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Greets the daemon at the other end of `stream`, in at most two round trips.
    ///
    /// `store` is the daemon's logical store directory, which the protocol does not transmit.
    pub async fn connect(stream: S, store: StoreDir) -> Result<Self, ClientError> {
        let mut outgoing = BytesMut::new();
        let handshake = Handshake::new(store, &mut outgoing);
        Self::connect_with(stream, handshake, outgoing).await
    }

    /// Carries through a greeting that has begun, e.g. one that claims an older version.
    pub async fn connect_with(
        mut stream: S,
        mut handshake: Handshake,
        mut outgoing: BytesMut,
    ) -> Result<Self, ClientError> {
        let during = Phase::Handshake;
        let mut incoming = BytesMut::new();
        let mut reply_begun = false;
        loop {
            // A daemon that refuses its peer closes at once: the write may fail while what it said can still be read.
            let written = async {
                stream.write_all_buf(&mut outgoing).await?;
                stream.flush().await
            };
            let read = match written.await {
                Err(error) if !exchange::is_disconnect(&error) => Err(error),
                _ => stream.read_buf(&mut incoming).await,
            };
            match read {
                Ok(0) if !reply_begun => return Err(ClientError::ClosedBeforeGreeting),
                Err(error) if !reply_begun && exchange::is_disconnect(&error) => {
                    return Err(ClientError::ClosedBeforeGreeting);
                }
                Ok(0) => return Err(ClientError::Closed { during, reply_begun }),
                Err(error) if exchange::is_disconnect(&error) => {
                    return Err(ClientError::Closed { during, reply_begun });
                }
                Err(source) => return Err(ClientError::Io { during, reply_begun, source }),
                Ok(_) => reply_begun = true,
            }
            if let Some(session) = handshake.advance(&mut incoming, &mut outgoing)? {
                // Nothing is left to say, unless to a daemon that has answered before it was told.
                let written = stream.write_all_buf(&mut outgoing).await;
                written.map_err(|source| ClientError::Io { during, reply_begun, source })?;
                return Ok(Self { stream: Some(stream), session, incoming, outgoing });
            }
        }
    }

    /// Keeps signatures of these keys before those of others, where the daemon has more than are kept, in the replies
    /// that are decoded from now on.
    pub fn set_known_keys(&mut self, keys: Arc<KnownKeys>) {
        self.session.set_known_keys(keys);
    }

    /// What was agreed on in the greeting.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Whether another operation can be sent: the last one was carried through, and nothing has come since. A daemon
    /// that has gone, or speaks unasked, is readable, and its connection is closed here.
    pub fn is_idle(&mut self) -> bool {
        self.poll_disconnected(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Ready when, between two operations, the daemon has gone or has spoken unasked, and so at once if no other operation
    /// can be sent. Then the connection is closed.
    pub fn poll_disconnected(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        let mut byte = [0];
        let silent = Pin::new(stream).poll_read(context, &mut ReadBuf::new(&mut byte)).is_pending();
        if silent && self.incoming.is_empty() {
            return Poll::Pending;
        }
        self.stream = None;
        Poll::Ready(())
    }

    /// Sends one operation and reads its reply.
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

    /// Sends many operations without waiting for each reply; replies come in the same order. At most 32 KiB of
    /// requests are unanswered at any time. An error of the daemon to one operation leaves the others as they are.
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

    /// Whether `path` is valid.
    pub async fn is_valid_path(&mut self, path: &StorePath) -> Result<bool, ClientError> {
        self.call(&IsValidPath(path)).await
    }

    /// What the daemon knows of `path`; `None` if it is not valid.
    pub async fn query_path_info(&mut self, path: &StorePath) -> Result<Option<PathInfo>, ClientError> {
        self.call(&QueryPathInfo(path)).await
    }

    /// The valid path that has this hash part; `None` if there is none.
    pub async fn query_path_from_hash_part(&mut self, hash: HashPart) -> Result<Option<StorePath>, ClientError> {
        self.call(&QueryPathFromHashPart(hash)).await
    }

    /// Those of `paths` that are valid.
    pub async fn query_valid_paths(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryValidPaths(paths)).await
    }

    /// The valid paths that refer to `path`.
    pub async fn query_referrers(&mut self, path: &StorePath) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryReferrers(path)).await
    }

    /// The valid derivations that have `path` as an output.
    pub async fn query_valid_derivers(&mut self, path: &StorePath) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryValidDerivers(path)).await
    }

    /// Every valid path: tens of megabytes on a big store.
    pub async fn query_all_valid_paths(&mut self) -> Result<Vec<StorePath>, ClientError> {
        self.call(&QueryAllValidPaths).await
    }

    /// The outputs of `derivation`. One that is not valid is a [`ClientError::Daemon`]; Nix 2.8 closes the connection
    /// over a path that is no derivation.
    pub async fn query_derivation_output_map(
        &mut self,
        derivation: &StorePath,
    ) -> Result<BTreeMap<OutputName, Option<StorePath>>, ClientError> {
        self.call(&QueryDerivationOutputMap(derivation)).await
    }

    /// The path that `output` is; [`ClientError::UnsupportedOperation`] if this daemon cannot be asked in that form.
    pub async fn query_realisation(&mut self, output: &DerivationOutput) -> Result<Option<Realisation>, ClientError> {
        self.call(&QueryRealisation(output)).await
    }

    /// What would have to be done to make `paths` valid.
    pub async fn query_missing(&mut self, paths: &[DerivedPath]) -> Result<Missing, ClientError> {
        self.call(&QueryMissing(paths)).await
    }

    /// Keeps `path` from the garbage collector until this connection ends.
    pub async fn add_temp_root(&mut self, path: &StorePath) -> Result<(), ClientError> {
        self.call(&AddTempRoot(path)).await
    }

    /// Makes `path` valid by substitution if it is not.
    pub async fn ensure_path(&mut self, path: &StorePath) -> Result<(), ClientError> {
        self.call(&EnsurePath(path)).await
    }

    /// The roots of the garbage collector.
    pub async fn find_roots(&mut self) -> Result<Vec<Root>, ClientError> {
        self.call(&FindRoots).await
    }
}
