//! One exchange: requests are sent, replies read, and the stream returned to its client.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connection::{Client, is_disconnect};
use crate::error::{ClientError, Phase};
use crate::operation::{Operation, UnsupportedOperation};
use crate::stderr::{DaemonError, Message, StderrLoop};
use crate::wire::{DecodeError, DecodeErrorKind, Reader, Scanner, put_u64};

/// Bytes to read at once while waiting for a reply. Most replies have some hundred bytes.
const READ: usize = 16 * 1024;

/// Capacity in bytes above which the buffer of a large reply is freed.
const MAX_RETAINED: usize = 256 * 1024;

/// Holds the stream of a client during an exchange. Dropping it closes the connection.
pub(super) struct Exchange<'a, S> {
    client: &'a mut Client<S>,
    stream: S,
    during: Phase,
    reply_begun: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Exchange<'a, S> {
    pub(super) fn begin(client: &'a mut Client<S>, during: Phase) -> Result<Self, ClientError> {
        let stream = client.stream.take().ok_or(ClientError::AlreadyClosed)?;
        // Bytes that were not asked for, such as a repeated fatal error, would be read as the reply.
        if !client.incoming.is_empty() {
            return Err(ClientError::AlreadyClosed);
        }
        client.outgoing.clear();
        Ok(Self { client, stream, during, reply_begun: false })
    }

    /// Returns the stream to the client, which can be used again.
    pub(super) fn finish(self) {
        if self.client.incoming.capacity() > MAX_RETAINED {
            self.client.incoming = BytesMut::new();
        }
        self.client.stream = Some(self.stream);
    }

    /// Returns the stream, for a reply that outlives the exchange.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    pub(super) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.client.outgoing
    }

    /// Appends a request and returns its size in bytes. Appends nothing if nix-daemon does not implement it.
    pub(super) fn request<O: Operation>(&mut self, operation: &O) -> Result<usize, UnsupportedOperation> {
        let before = self.client.outgoing.len();
        put_u64(&mut self.client.outgoing, O::OPCODE.to_wire());
        let encoded = operation.encode(&self.client.session, &mut self.client.outgoing);
        if encoded.is_err() {
            self.client.outgoing.truncate(before);
        }
        encoded.map(|()| self.client.outgoing.len() - before)
    }

    /// Sends all requests that were appended.
    pub(super) async fn send(&mut self) -> Result<(), ClientError> {
        let written = self.stream.write_all_buf(&mut self.client.outgoing).await;
        let flushed = match written {
            Ok(()) => self.stream.flush().await,
            Err(error) => Err(error),
        };
        match flushed {
            Ok(()) => Ok(()),
            Err(source) => {
                let mut stderr = StderrLoop::new(self.client.session.version);
                Err(self.unwritable(source, &mut stderr).await)
            }
        }
    }

    /// Returns the error of a failed write: the one that nix-daemon reported before it closed its side, if any.
    async fn unwritable(&mut self, source: io::Error, stderr: &mut StderrLoop) -> ClientError {
        let begun = self.reply_begun;
        if let Ok(Message::Error(error)) = self.message(stderr).await {
            return ClientError::Daemon { during: self.during, error };
        }
        self.reply_begun = begun;
        self.broken(source)
    }

    /// Sends all that was appended and reads messages meanwhile, so that neither side waits for the other. nix-daemon
    /// may report an error before an upload is complete.
    pub(super) async fn send_and_listen(&mut self, stderr: &mut StderrLoop) -> Result<(), ClientError> {
        while self.client.outgoing.has_remaining() {
            let progress = std::future::poll_fn(|context| {
                let client = &mut *self.client;
                if let Poll::Ready(written) = pin!(self.stream.write_buf(&mut client.outgoing)).poll(context) {
                    let written =
                        written.and_then(|n| if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(None) });
                    return Poll::Ready(written);
                }
                client.incoming.reserve(READ);
                pin!(self.stream.read_buf(&mut client.incoming)).poll(context).map_ok(Some)
            });
            match progress.await {
                Ok(None) => {}
                Ok(Some(0)) => return Err(self.closed()),
                Ok(Some(_)) => {
                    self.reply_begun = true;
                    while let Some(message) =
                        stderr.advance(&mut self.client.incoming).map_err(|e| self.malformed(e))?
                    {
                        // Not even LAST may arrive before nix-daemon has read its arguments.
                        if message != Message::Log {
                            return Err(self.unexpected(message));
                        }
                    }
                }
                Err(source) => return Err(self.unwritable(source, stderr).await),
            }
        }
        match self.stream.flush().await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.unwritable(source, stderr).await),
        }
    }

    /// Reads messages up to one that is not a log message.
    pub(super) async fn message(&mut self, stderr: &mut StderrLoop) -> Result<Message, ClientError> {
        loop {
            match stderr.advance(&mut self.client.incoming).map_err(|error| self.malformed(error))? {
                None => self.fill().await?,
                Some(Message::Log) => {}
                Some(message) => return Ok(message),
            }
        }
    }

    /// Reads messages up to LAST. The inner error is one that nix-daemon reported.
    pub(super) async fn last(&mut self) -> Result<Result<(), DaemonError>, ClientError> {
        let mut stderr = StderrLoop::new(self.client.session.version);
        match self.message(&mut stderr).await? {
            Message::Last => Ok(Ok(())),
            Message::Error(error) => Ok(Err(error)),
            message => Err(self.unexpected(message)),
        }
    }

    /// Returns the error for a message that ends the exchange or must not occur here.
    pub(super) fn unexpected(&self, message: Message) -> ClientError {
        match message {
            Message::Error(error) => ClientError::Daemon { during: self.during, error },
            Message::Read(_) => self.malformed(DecodeErrorKind::Unexpected.in_field("request for upload")),
            Message::Last | Message::Log => self.malformed(DecodeErrorKind::Unexpected.in_field("daemon message")),
        }
    }

    /// Reads one complete reply. The inner error is one that nix-daemon reported.
    pub(super) async fn reply<O: Operation>(
        &mut self,
        operation: &O,
    ) -> Result<Result<O::Reply, DaemonError>, ClientError> {
        if let Err(error) = self.last().await? {
            return Ok(Err(error));
        }
        let mut scanner = Scanner::new(operation.reply_schema(&self.client.session), O::MAX_REPLY);
        loop {
            let whole = scanner.advance(&self.client.incoming).map_err(|error| self.malformed(error))?;
            let Some(length) = whole else {
                self.fill().await?;
                continue;
            };
            let mut reader = Reader::new(&self.client.incoming[..length]);
            let reply = operation.decode(&self.client.session, &mut reader);
            let reply = reply.and_then(|reply| reader.finish().map(|()| reply));
            let reply = reply.map_err(|error| self.malformed(error))?;
            self.client.incoming.advance(length);
            return Ok(Ok(reply));
        }
    }

    async fn fill(&mut self) -> Result<(), ClientError> {
        self.client.incoming.reserve(READ);
        match self.stream.read_buf(&mut self.client.incoming).await {
            Ok(0) => Err(self.closed()),
            Ok(_) => {
                self.reply_begun = true;
                Ok(())
            }
            Err(source) => Err(self.broken(source)),
        }
    }

    fn malformed(&self, error: DecodeError) -> ClientError {
        ClientError::Malformed { during: self.during, error }
    }

    const fn closed(&self) -> ClientError {
        ClientError::Closed { during: self.during, reply_begun: self.reply_begun }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        if is_disconnect(&source) {
            return self.closed();
        }
        ClientError::Io { during: self.during, reply_begun: self.reply_begun, source }
    }
}
