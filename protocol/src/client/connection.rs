//! The connection itself: its handshake, and its state between two operations.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::error::{ClientError, Phase};
use crate::handshake::Handshake;
use crate::session::Session;
use crate::signature_set::KnownKeys;
use crate::store_path::StoreDir;

/// A connection to nix-daemon over any byte stream.
///
/// # Cancel safety
///
/// A future of this type may be dropped, but not resumed: dropping one before it is done closes the connection, and
/// every later operation fails with [`ClientError::AlreadyClosed`]. So does an error, except one that nix-daemon reports
/// for an operation that [leaves the connection usable](crate::operation::Opcode::survives_error). Nothing has a timeout;
/// wrap calls in one.
#[derive(Debug)]
pub struct Client<S> {
    /// `None` during an exchange, and for good after one that did not complete.
    pub(super) stream: Option<S>,
    pub(super) session: Session,
    pub(super) incoming: BytesMut,
    pub(super) outgoing: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Performs the handshake with nix-daemon at the other end of `stream`, in at most two round trips.
    ///
    /// `store` must be the logical store directory of that nix-daemon; the protocol does not transmit it. Dropping the
    /// future drops `stream`.
    pub async fn connect(stream: S, store: StoreDir) -> Result<Self, ClientError> {
        let mut outgoing = BytesMut::new();
        let handshake = Handshake::new(store, &mut outgoing);
        Self::connect_with(stream, handshake, outgoing).await
    }

    /// Completes a handshake that has begun, such as one that claims an older version, after sending `outgoing`.
    pub async fn connect_with(
        mut stream: S,
        mut handshake: Handshake,
        mut outgoing: BytesMut,
    ) -> Result<Self, ClientError> {
        let during = Phase::Handshake;
        let mut incoming = BytesMut::new();
        let mut reply_begun = false;
        loop {
            // nix-daemon closes at once if it rejects a user: the write may fail while its bytes can still be read.
            let written = async {
                stream.write_all_buf(&mut outgoing).await?;
                stream.flush().await
            };
            let read = match written.await {
                Err(error) if !is_disconnect(&error) => Err(error),
                _ => stream.read_buf(&mut incoming).await,
            };
            match read {
                Ok(0) if !reply_begun => return Err(ClientError::ClosedBeforeGreeting),
                Err(error) if !reply_begun && is_disconnect(&error) => {
                    return Err(ClientError::ClosedBeforeGreeting);
                }
                Ok(0) => return Err(ClientError::Closed { during, reply_begun }),
                Err(error) if is_disconnect(&error) => {
                    return Err(ClientError::Closed { during, reply_begun });
                }
                Err(source) => return Err(ClientError::Io { during, reply_begun, source }),
                Ok(_) => reply_begun = true,
            }
            if let Some(session) = handshake.advance(&mut incoming, &mut outgoing)? {
                // Empty, unless nix-daemon replied before it was sent everything.
                let written = stream.write_all_buf(&mut outgoing).await;
                written.map_err(|source| ClientError::Io { during, reply_begun, source })?;
                return Ok(Self { stream: Some(stream), session, incoming, outgoing });
            }
        }
    }

    /// Sets the keys whose signatures take precedence where a path or realisation has more signatures than are kept
    /// (see [`signature_set`](crate::signature_set)). Applies to replies that are decoded later.
    pub fn set_known_keys(&mut self, keys: Arc<KnownKeys>) {
        self.session.set_known_keys(keys);
    }

    /// Returns the result of the handshake.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Returns whether another operation can be sent: the last one completed, and nothing has arrived since.
    ///
    /// Closes the connection if nix-daemon closed its side or sent something unasked.
    pub fn is_idle(&mut self) -> bool {
        self.poll_disconnected(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Waits, between two operations, until nix-daemon closes its side or sends something unasked; closes the connection
    /// then. Ready at once if no other operation can be sent.
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
}

/// Returns whether an error means that the peer closed the connection.
pub(super) fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}
