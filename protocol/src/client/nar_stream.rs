//! A NAR as it arrives.
//!
//! The daemon sends no length and may put an error frame anywhere, so the bytes are parsed structurally as they pass;
//! they are handed on where they were read, without a copy.

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

/// How much is read at once. The daemon writes file contents in pieces of 64 KiB.
const READ: usize = 256 * 1024;
const DURING: Phase = Phase::Operation(Opcode::NarFromPath);

/// The bytes of one NAR from the daemon, exactly as long as the NAR is.
///
/// Holds its client until the end: when the last byte has been taken the client is in step again; a stream that is
/// dropped earlier closes the connection. `C` is `&mut Client<S>`, or a pool's guard of one.
#[derive(Debug)]
pub struct NarStream<C, S> {
    client: C,
    /// Nothing once the stream has ended, well or not.
    stream: Option<S>,
    parser: Parser,
    in_error: bool,
}

impl<S, C> NarStream<C, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: DerefMut<Target = Client<S>>,
{
    /// Asks for the NAR of `path`, which must be known to be valid: Nix up to 2.32 and Lix dump whatever lies on disk
    /// under that name. A NAR of more than `nar_size` bytes is an error as soon as a length in it says so; 0 means, as
    /// in a path info, that the size is not known. Up to seven bytes of an error frame may be handed on before the
    /// error: only size and hash prove a NAR.
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

    /// The client that it has, which is busy until the end.
    pub const fn client(&self) -> &C {
        &self.client
    }

    /// Waits for the next bytes; `None` after the last ones, [`ClientError::AlreadyClosed`] after an error. Safe to drop between
    /// calls and while pending: nothing is lost.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// The same for a hand-written future.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        self.poll_chunk_with(context, &mut |_| ())
    }

    /// The same, and calls `visit` for what the bytes hold: what the daemon says, not yet proven by size and hash.
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

    /// Whether the last bytes have been taken.
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
                // Only a good end has given the client its stream back.
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

    /// The client is in step again, if the daemon said nothing more.
    fn finish(&mut self) -> Result<(), ClientError> {
        if !self.client.incoming.is_empty() {
            let error = DecodeErrorKind::Trailing(self.client.incoming.len()).in_field("nar");
            return Err(ClientError::Malformed { during: DURING, error });
        }
        self.client.stream = self.stream.take();
        Ok(())
    }
}
