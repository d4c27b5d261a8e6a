//! A NAR that cannot lie: it ends well only if its size and hash are those of its path info.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use harmonia_protocol::client::NarStream;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::{Event, Layout, LayoutBuilder, NarError};
use harmonia_protocol::{ClientError, StorePath};
use ring::digest;
use tokio::time::Sleep;

use super::info_cache::InfoCache;
use super::pool::Loan;
use super::transport::Transport;
use super::{Step, StoreError, ValidPath};

/// How long a response waits for the first bytes of its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, hashed and counted as they pass.
///
/// The last piece is withheld until size and hash are proven, so whoever passes the bytes on has not passed on a
/// complete NAR before. Dropping it closes its connection to the daemon, unless the NAR has been read to its end.
#[derive(Debug)]
pub struct Nar {
    stream: NarStream<Loan, Transport>,
    path: StorePath,
    /// Where the path info may come from, which is doubtful once the NAR has failed.
    infos: Arc<InfoCache>,
    expected: NarHash,
    size: u64,
    hasher: Option<Hasher>,
    /// The piece that is handed on when the next one has come or all is proven.
    held: Option<Bytes>,
    /// Runs while the daemon owes us bytes.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Nar {
    pub(super) fn new(stream: NarStream<Loan, Transport>, valid: &ValidPath, infos: Arc<InfoCache>) -> Self {
        Self {
            stream,
            path: valid.path.clone(),
            infos,
            expected: valid.info.nar_hash,
            size: valid.info.nar_size,
            hasher: Some(Hasher::new()),
            held: None,
            patience: None,
        }
    }

    /// The path whose NAR it is.
    pub const fn path(&self) -> &StorePath {
        &self.path
    }

    /// The next bytes; nothing after the last ones. After an error there is nothing more to be had.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        self.poll_visiting(context, &mut |_| ())
    }

    fn poll_visiting(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        while self.hasher.is_some() {
            if let Some(before) = ready!(self.poll_advance(context, visit))? {
                return Poll::Ready(Ok(Some(before)));
            }
        }
        Poll::Ready(Ok(self.held.take()))
    }

    /// Takes one piece more from the daemon, or proves the NAR at its end. The result is the piece that was held before.
    fn poll_advance(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let advanced = self.poll_next(context, visit);
        if let Poll::Ready(Err(error)) = &advanced {
            self.infos.doubt(self.path.hash_part(), error);
        }
        advanced
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let Some(hasher) = &mut self.hasher else { return Poll::Ready(Ok(None)) };
        match self.stream.poll_visiting(context, visit) {
            Poll::Pending => {
                let step = Step::NarBytes;
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(step.deadline())));
                ready!(patience.as_mut().poll(context));
                Poll::Ready(Err(StoreError::Late(step)))
            }
            Poll::Ready(chunk) => match chunk? {
                Some(bytes) => {
                    self.patience = None;
                    hasher.update(&bytes);
                    Poll::Ready(Ok(self.held.replace(bytes)))
                }
                None => Poll::Ready(self.prove().map(|()| None)),
            },
        }
    }

    /// Waits until the daemon has begun, or has proven a NAR of one piece, but not for long: what goes wrong up to then
    /// can still be said in the head of a response, and later only by breaking its body.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| {
            while self.hasher.is_some() && (self.held.is_none() || self.stream.is_finished()) {
                ready!(self.poll_advance(context, &mut |_| ()))?;
            }
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(LONGEST_BEGINNING, begun).await.unwrap_or(Ok(()))
    }

    /// Waits for the next bytes, as [`Nar::poll_chunk`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Reads a NAR of which nothing has been read to its proven end, and indexes it; `None` if it has more in it than
    /// an index holds.
    pub async fn layout(&mut self) -> Result<Option<Layout>, StoreError> {
        let mut builder = LayoutBuilder::new();
        let mut visit = |event: Event<'_>| builder.push(event);
        while std::future::poll_fn(|context| self.poll_visiting(context, &mut visit)).await?.is_some() {}
        match builder.finish() {
            Ok(layout) => Ok(Some(layout)),
            Err(NarError::TooManyEntries) => Ok(None),
            Err(error) => Err(ClientError::from(error).into()),
        }
    }

    fn prove(&mut self) -> Result<(), StoreError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let (found, size) = hasher.finish();
        let path = self.path.clone();
        let verdict = if size != self.size {
            Err(StoreError::WrongSize { path, expected: self.size, found: size })
        } else if found != self.expected {
            Err(StoreError::WrongHash { path, expected: self.expected, found })
        } else {
            Ok(())
        };
        if verdict.is_err() {
            self.held = None;
        }
        verdict
    }
}

/// SHA-256 and length of what has passed.
struct Hasher {
    sha256: digest::Context,
    size: u64,
}

impl Hasher {
    fn new() -> Self {
        Self { sha256: digest::Context::new(&digest::SHA256), size: 0 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> (NarHash, u64) {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        (NarHash::from_digest(sha256), self.size)
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hasher({} bytes)", self.size)
    }
}
