//! A NAR while it arrives.
//!
//! nix-daemon sends no length and may send an error in the middle, so the bytes are parsed as they pass. They are returned
//! in the buffer into which they were read, without a copy.

use std::future::Future;
use std::ops::DerefMut;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::connection::{Client, is_disconnect};
use super::exchange::Exchange;
use crate::error::{ClientError, Phase};
use crate::nar::{Event, Feed, Parser};
use crate::operation::Opcode;
use crate::stderr::decode_error_after_tag;
use crate::store_path::StorePath;
use crate::wire::{DecodeErrorKind, put_bytes, put_u64};

/// Bytes to read at once. nix-daemon writes contents of files in pieces of 64 KiB.
const READ: usize = 256 * 1024;
const DURING: Phase = Phase::Operation(Opcode::NarFromPath);

/// The bytes of one NAR from nix-daemon.
///
/// Holds its client until the end: after the last chunk the client can be used again, and dropping the stream earlier
/// closes the connection. `C` is `&mut Client<S>`, or the guard of a pool.
///
/// The stream checks structure and upper bound of the NAR, not its hash. Until size and SHA-256 of all chunks were compared
/// with the path info, chunks are not to be trusted: up to seven bytes of an error may precede its detection.
#[derive(Debug)]
pub struct NarStream<C, S> {
    client: C,
    /// `None` after the end or an error.
    stream: Option<S>,
    parser: Parser,
    in_error: bool,
}

impl<S, C> NarStream<C, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: DerefMut<Target = Client<S>>,
{
    /// Requests the NAR of `path` (NarFromPath).
    ///
    /// Check first that the path is valid: Nix up to 2.32 and Lix dump whatever is on disk under that name. `nar_size` is
    /// the size in bytes that the path info has; 0 stands for unknown, as it does there. A larger NAR fails as soon as a
    /// length in it exceeds the size. Dropping the future closes the connection.
    pub async fn open(mut client: C, path: &StorePath, nar_size: u64) -> Result<Self, ClientError> {
        let limit = if nar_size == 0 { u64::MAX } else { nar_size };
        let full_path = client.session.store.full_path(path);
        let mut exchange = Exchange::begin(&mut *client, DURING)?;
        put_u64(exchange.outgoing(), Opcode::NarFromPath.to_wire());
        put_bytes(exchange.outgoing(), full_path.as_bytes());
        exchange.send().await?;
        exchange.last().await?.map_err(|error| ClientError::Daemon { during: DURING, error })?;
        let stream = Some(exchange.into_stream());
        Ok(Self { client, stream, parser: Parser::new(limit), in_error: false })
    }

    /// Returns the client, which cannot be used until the end.
    pub const fn client(&self) -> &C {
        &self.client
    }

    /// Waits for the next chunk. Returns `None` after the last one, and fails with [`ClientError::AlreadyClosed`] after an
    /// error.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Polls for the next chunk, as [`chunk`](Self::chunk) does.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        self.poll_chunk_with(context, &mut |_| ())
    }

    /// Polls for the next chunk, as [`chunk`](Self::chunk) does, and calls `visit` for each event in it. Events are not
    /// verified before the whole NAR is.
    pub fn poll_chunk_with(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, ClientError>> {
        let chunk = ready!(self.poll_inner(context, visit));
        if chunk.is_err() {
            self.stream = None;
        }
        Poll::Ready(chunk)
    }

    /// Returns whether the last chunk was returned.
    pub fn is_finished(&self) -> bool {
        self.parser.is_finished()
    }

    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, ClientError>> {
        loop {
            let client = &mut *self.client;
            let Some(stream) = &mut self.stream else {
                // Only a complete NAR returned the stream to the client.
                return Poll::Ready(if client.stream.is_some() { Ok(None) } else { Err(ClientError::AlreadyClosed) });
            };
            let incoming = &mut client.incoming;
            if self.in_error {
                let error = decode_error_after_tag(client.session.version, incoming);
                if let Some(error) = error.map_err(|error| ClientError::Malformed { during: DURING, error })? {
                    return Poll::Ready(Err(ClientError::Daemon { during: DURING, error }));
                }
            } else if !incoming.is_empty() {
                match self.parser.feed(incoming, visit)? {
                    Feed::More => return Poll::Ready(Ok(Some(incoming.split().freeze()))),
                    Feed::Finished { consumed } => {
                        let last = incoming.split_to(consumed).freeze();
                        return Poll::Ready(self.finish().map(|()| Some(last)));
                    }
                    Feed::ErrorFrame { consumed } => {
                        incoming.advance(consumed);
                        self.in_error = true;
                        continue;
                    }
                }
            }
            incoming.reserve(READ);
            let closed = ClientError::Closed { during: DURING, reply_begun: true };
            match ready!(pin!(stream.read_buf(incoming)).poll(context)) {
                Ok(0) => return Poll::Ready(Err(closed)),
                Ok(_) => {}
                Err(error) if is_disconnect(&error) => return Poll::Ready(Err(closed)),
                Err(source) => {
                    return Poll::Ready(Err(ClientError::Io { during: DURING, reply_begun: true, source }));
                }
            }
        }
    }

    /// Returns the stream to the client, unless nix-daemon sent more than the NAR.
    fn finish(&mut self) -> Result<(), ClientError> {
        if !self.client.incoming.is_empty() {
            let error = DecodeErrorKind::Trailing(self.client.incoming.len()).in_field("nar");
            return Err(ClientError::Malformed { during: DURING, error });
        }
        self.client.stream = self.stream.take();
        Ok(())
    }
}
