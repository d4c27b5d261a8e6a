//! Adding paths to the store.
//!
//! From protocol 1.23 on the client sends the NAR in frames, and reads messages meanwhile. Before, nix-daemon asks for the
//! NAR piece by piece.
//!
//! Source: Nix `src/libstore/remote-store.cc`, `addToStore` and `addMultipleToStore`.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::connection::Client;
use super::exchange::Exchange;
use crate::error::{ClientError, Phase};
use crate::operation::{Opcode, UnsupportedOperation};
use crate::path_info::PathInfo;
use crate::stderr::{Message, StderrLoop};
use crate::store_path::StorePath;
use crate::version::Version;
use crate::wire::{put_bool, put_bytes, put_u64};

/// Size of a frame, in bytes. nix-daemon buffers a complete one.
const FRAME: usize = 64 * 1024;

/// A path to add, with its path info and a reader of its NAR. nix-daemon rejects a NAR that does not match the path
/// info.
#[derive(Debug)]
pub struct Upload<'a, R> {
    /// Path to add.
    pub path: &'a StorePath,
    /// Path info to register.
    pub info: &'a PathInfo,
    /// Reader of the NAR's bytes.
    pub nar: R,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Adds one path (AddToStoreNar). Without `check_signatures` nix-daemon accepts it unsigned, if it trusts this client.
    ///
    /// Dropping the future closes the connection, and the path is not added.
    pub async fn add_to_store_nar<R: AsyncRead + Unpin>(
        &mut self,
        mut upload: Upload<'_, R>,
        check_signatures: bool,
    ) -> Result<(), ClientError> {
        let during = Phase::Operation(Opcode::AddToStoreNar);
        let session = self.session.clone();
        let mut exchange = Exchange::begin(self, during)?;
        let out = exchange.outgoing();
        put_u64(out, Opcode::AddToStoreNar.to_wire());
        put_bytes(out, session.store.full_path(upload.path).as_bytes());
        upload.info.encode(&session.store, out);
        let repair = false;
        put_bool(out, repair);
        put_bool(out, !check_signatures);
        let mut stderr = StderrLoop::new(session.version);
        if session.version < Version::FRAMED_UPLOAD {
            exchange.send().await?;
            return pulled(exchange, stderr, &mut upload.nar).await;
        }
        let mut frames = Frames { exchange: &mut exchange, stderr: &mut stderr };
        frames.send_all(&mut upload.nar).await?;
        frames.end().await?;
        conclude(exchange, stderr).await
    }

    /// Adds many paths in one operation (AddMultipleToStore, protocol 1.32 and later), each after the paths that it refers
    /// to. Without `check_signatures` nix-daemon accepts them unsigned, if it trusts this client.
    ///
    /// Dropping the future closes the connection. nix-daemon may have added some of the paths by then.
    pub async fn add_multiple_to_store<R: AsyncRead + Unpin>(
        &mut self,
        uploads: Vec<Upload<'_, R>>,
        check_signatures: bool,
    ) -> Result<(), ClientError> {
        let opcode = Opcode::AddMultipleToStore;
        let during = Phase::Operation(opcode);
        let session = self.session.clone();
        if session.version < Version::ADD_MULTIPLE {
            return Err(UnsupportedOperation { opcode, version: session.version }.into());
        }
        let mut exchange = Exchange::begin(self, during)?;
        let out = exchange.outgoing();
        put_u64(out, opcode.to_wire());
        let repair = false;
        put_bool(out, repair);
        put_bool(out, !check_signatures);
        let mut stderr = StderrLoop::new(session.version);
        let mut frames = Frames { exchange: &mut exchange, stderr: &mut stderr };
        let mut head = BytesMut::new();
        put_u64(&mut head, uploads.len() as u64);
        for mut upload in uploads {
            put_bytes(&mut head, session.store.full_path(upload.path).as_bytes());
            upload.info.encode(&session.store, &mut head);
            frames.send_all(&mut &head.split()[..]).await?;
            frames.send_all(&mut upload.nar).await?;
        }
        // The count alone, without an upload to send it with.
        frames.send_all(&mut &head[..]).await?;
        frames.end().await?;
        conclude(exchange, stderr).await
    }
}

/// Reads messages up to LAST, after which neither operation has a reply.
async fn conclude<S: AsyncRead + AsyncWrite + Unpin>(
    mut exchange: Exchange<'_, S>,
    mut stderr: StderrLoop,
) -> Result<(), ClientError> {
    match exchange.message(&mut stderr).await? {
        Message::Last => {
            exchange.finish();
            Ok(())
        }
        message => Err(exchange.unexpected(message)),
    }
}

/// Sends the pieces that nix-daemon asks for. If it asks for more after the end, it did not find the end of the NAR.
async fn pulled<S: AsyncRead + AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    mut exchange: Exchange<'_, S>,
    mut stderr: StderrLoop,
    nar: &mut R,
) -> Result<(), ClientError> {
    let mut piece = vec![0; FRAME];
    let mut ended = false;
    loop {
        match exchange.message(&mut stderr).await? {
            Message::Read(wanted) if !ended => {
                let wanted = usize::try_from(wanted).unwrap_or(FRAME).min(FRAME);
                let length = nar.read(&mut piece[..wanted]).await.map_err(ClientError::Source)?;
                ended = length == 0;
                put_bytes(exchange.outgoing(), &piece[..length]);
                exchange.send().await?;
            }
            Message::Last => {
                exchange.finish();
                return Ok(());
            }
            message => return Err(exchange.unexpected(message)),
        }
    }
}

/// Writer of bytes in frames, of which the last one is empty.
struct Frames<'e, 'a, S> {
    exchange: &'e mut Exchange<'a, S>,
    stderr: &'e mut StderrLoop,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<'_, '_, S> {
    async fn send_all<R: AsyncRead + Unpin>(&mut self, source: &mut R) -> Result<(), ClientError> {
        let mut frame = vec![0; FRAME];
        loop {
            let length = source.read(&mut frame).await.map_err(ClientError::Source)?;
            if length == 0 {
                return Ok(());
            }
            put_u64(self.exchange.outgoing(), length as u64);
            self.exchange.outgoing().extend_from_slice(&frame[..length]);
            self.exchange.send_and_listen(self.stderr).await?;
        }
    }

    async fn end(&mut self) -> Result<(), ClientError> {
        put_u64(self.exchange.outgoing(), 0);
        self.exchange.send_and_listen(self.stderr).await
    }
}
