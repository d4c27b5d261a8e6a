//! A NAR that cannot lie: it ends well only if its size and hash are those of its path info.
//!
//! The hash is left out only for bytes that have been proven before, of a path that has not changed since (`proven`).

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
use super::proven::{Claim, Proven};
use super::sighting::Sighting;
use super::transport::Transport;
use super::{Step, StoreError};

/// How long a response waits for the first bytes of its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, hashed and counted as they pass.
///
/// The last piece is withheld until size and hash are proven, so whoever passes the bytes on has not passed on a
/// complete NAR before. Dropping it closes its connection to the daemon, unless the NAR has been read to its end.
#[derive(Debug)]
pub struct Nar {
    stream: NarStream<Loan, Transport>,
    claim: Claim,
    /// Where the path info may come from, which is doubtful once the NAR has failed.
    infos: Arc<InfoCache>,
    proven: Arc<Proven>,
    /// How the path looked before anything was read.
    seen: Option<Sighting>,
    /// What has passed; nothing once the end has been reached.
    passed: Option<Passed>,
    /// The piece that is handed on when the next one has come or all is proven.
    held: Option<Bytes>,
    /// Runs while the daemon owes us bytes.
    patience: Option<Pin<Box<Sleep>>>,
}

/// What a NAR is held against: what is known of its path, and how that looked before the NAR was asked for.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) claim: Claim,
    pub(super) infos: Arc<InfoCache>,
    pub(super) proven: Arc<Proven>,
    pub(super) seen: Option<Sighting>,
    /// Whether its bytes have been proven before, as the path looks.
    pub(super) is_proven: bool,
}

impl Nar {
    pub(super) fn new(stream: NarStream<Loan, Transport>, terms: Terms) -> Self {
        let Terms { claim, infos, proven, seen, is_proven } = terms;
        let passed = Some(Passed::nothing(!is_proven));
        Self { stream, claim, infos, proven, seen, passed, held: None, patience: None }
    }

    /// The path whose NAR it is.
    pub const fn path(&self) -> &StorePath {
        &self.claim.path
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
        while self.passed.is_some() {
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
            self.infos.doubt(self.claim.path.hash_part(), error);
            self.proven.doubt(self.claim.path.hash_part());
        }
        advanced
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let Some(passed) = &mut self.passed else { return Poll::Ready(Ok(None)) };
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
                    passed.add(&bytes);
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
            while self.passed.is_some() && (self.held.is_none() || self.stream.is_finished()) {
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
        let Some(passed) = self.passed.take() else { return Ok(()) };
        let verdict = self.verdict(passed);
        if verdict.is_err() {
            self.held = None;
        }
        verdict
    }

    fn verdict(&self, passed: Passed) -> Result<(), StoreError> {
        let Claim { path, nar_hash, nar_size } = &self.claim;
        let (found, size) = passed.finish();
        if size != *nar_size {
            return Err(StoreError::WrongSize { path: path.clone(), expected: *nar_size, found: size });
        }
        match (found, self.seen) {
            (Some(found), _) if found != *nar_hash => {
                Err(StoreError::WrongHash { path: path.clone(), expected: *nar_hash, found })
            }
            (Some(_), Some(seen)) => {
                self.proven.add(&self.claim, seen);
                Ok(())
            }
            (Some(_), None) => Ok(()),
            (None, seen) if self.proven.look(path) == seen => Ok(()),
            (None, _) => Err(StoreError::Changed(path.clone())),
        }
    }
}

/// Length of what has passed, and its SHA-256 where that is not known.
struct Passed {
    sha256: Option<digest::Context>,
    size: u64,
}

impl Passed {
    fn nothing(is_hashed: bool) -> Self {
        Self { sha256: is_hashed.then(|| digest::Context::new(&digest::SHA256)), size: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> (Option<NarHash>, u64) {
        let hash = self.sha256.map(|sha256| {
            let mut hash = [0; 32];
            hash.copy_from_slice(sha256.finish().as_ref());
            NarHash::from_digest(hash)
        });
        (hash, self.size)
    }
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Passed({} bytes)", self.size)
    }
}
