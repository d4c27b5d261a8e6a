//! A NAR that cannot lie: it ends well only if its size and hash are those of its path info.
//!
//! Where the bytes come from makes no difference to that, nor does whether they are all of them: a part of a NAR is one of
//! bytes that have been proven. The hash is left out only for bytes that have been proven before, of a path that has not changed since (`proven`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use harmonia_protocol::client::NarStream;
use harmonia_protocol::nar::{Event, Layout};
use tokio::time::Sleep;

use crate::fairness::Permit;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::pool::Loan;
use crate::store::daemon::transport::Transport;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::Held;
use crate::store::nar::digest::Passed;
use crate::store::nar::expected::Claim;
use crate::store::nar::files::stream::FileStream;
use crate::store::nar::quarantine::{HeldBack, Origin};
use crate::store::nar::verified::Proven;
use crate::store::path_info::cache::InfoCache;
use crate::store::path_info::path_stamp::Sighting;

/// How long a response waits for the first bytes of its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, hashed and counted as they pass.
///
/// The last piece is withheld until size and hash are proven, so whoever passes the bytes on has not passed on a
/// complete NAR before. Dropping it closes its connection to the daemon, unless the NAR has been read to its end.
#[derive(Debug)]
pub struct VerifyingNar {
    source: Source,
    claim: Claim,
    /// Where its first byte is in the whole NAR, and how many bytes there are to be.
    first: u64,
    length: u64,
    /// Where the path info may come from, which is doubtful once the NAR has failed.
    infos: Arc<InfoCache>,
    proven: Arc<Proven>,
    /// Where its path goes if it turns out to be wrong.
    held_back: Arc<HeldBack>,
    origin: Origin,
    /// How the path looked before anything was read.
    seen: Option<Sighting>,
    /// What has passed; nothing once the end has been reached.
    passed: Option<Passed>,
    /// The piece that is handed on when the next one has come or all is proven.
    held: Option<Bytes>,
    /// Runs while the source owes us bytes.
    patience: Option<Pin<Box<Sleep>>>,
    /// What keeps the path alive.
    _lease: Option<Held>,
}

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The daemon's dump.
    Daemon(Box<NarStream<Loan, Transport>>),
    /// The store's files.
    Files(FileStream),
}

impl Source {
    /// The next bytes, and, of a dump, what is in them; where files are read, their index has it all.
    fn poll_chunk_with(
        &mut self,
        path: &StorePath,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        match self {
            Self::Daemon(stream) => {
                stream.poll_chunk_with(context, visit).map_err(|error| StoreError::of_dump(path, error))
            }
            Self::Files(stream) => stream.poll_chunk(context),
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Self::Daemon(stream) => stream.is_finished(),
            Self::Files(stream) => stream.is_finished(),
        }
    }

    fn permit(&self) -> &Permit {
        match self {
            Self::Daemon(stream) => stream.client().permit(),
            Self::Files(stream) => stream.permit(),
        }
    }

    /// What it is when the bytes stay away.
    fn late(&self) -> StoreError {
        match self {
            Self::Daemon(_) => StoreError::Timeout(Deadline::NarBytes),
            Self::Files(stream) => stream.late(),
        }
    }
}

/// What a NAR is held against: what is known of its path, and how that looked before the NAR was asked for.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) claim: Claim,
    pub(crate) infos: Arc<InfoCache>,
    pub(crate) proven: Arc<Proven>,
    pub(crate) held_back: Arc<HeldBack>,
    pub(crate) origin: Origin,
    pub(crate) seen: Option<Sighting>,
    /// Whether its bytes have been proven before, as the path looks.
    pub(crate) is_proven: bool,
}

impl VerifyingNar {
    /// All of it, nothing of which has been read.
    pub(crate) fn new(source: Source, terms: Terms) -> Self {
        let length = terms.claim.nar_size;
        Self::part(source, terms, 0, length)
    }

    /// So many bytes of it from `first` on, which are proven already unless they are all.
    pub(crate) fn part(source: Source, terms: Terms, first: u64, length: u64) -> Self {
        let Terms { claim, infos, proven, held_back, origin, seen, is_proven } = terms;
        let passed = Some(Passed::nothing(!is_proven));
        Self {
            source,
            claim,
            first,
            length,
            infos,
            proven,
            held_back,
            origin,
            seen,
            passed,
            held: None,
            patience: None,
            _lease: None,
        }
    }

    /// The same, which keeps its path alive until it is dropped.
    pub(crate) fn holding(self, lease: Option<Held>) -> Self {
        Self { _lease: lease, ..self }
    }

    /// The path whose NAR it is.
    pub const fn path(&self) -> &StorePath {
        &self.claim.path
    }

    /// What it holds until it is dropped: a connection to the daemon, or memory for what is read of the files.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.source.permit()
    }

    /// Where its first byte is in the whole NAR.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The next bytes; nothing after the last ones. After an error there is nothing more to be had.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        self.poll_chunk_with(context, &mut |_| ())
    }

    /// The next bytes as [`VerifyingNar::poll_chunk`], and, of a dump, what is in those that were read for it.
    pub(crate) fn poll_chunk_with(
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

    /// Takes one piece more from the source, or proves the NAR at its end. The result is the piece that was held before.
    fn poll_advance(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let advanced = self.poll_next(context, visit);
        if let Poll::Ready(Err(error)) = &advanced {
            self.infos.doubt(self.claim.path.hash_part(), error);
            self.proven.doubt(self.claim.path.hash_part());
            self.held_back.consider(&self.claim, error, self.origin);
        }
        advanced
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let Some(passed) = &mut self.passed else { return Poll::Ready(Ok(None)) };
        match self.source.poll_chunk_with(&self.claim.path, context, visit) {
            Poll::Pending => {
                let deadline = Deadline::NarBytes.duration();
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
                ready!(patience.as_mut().poll(context));
                Poll::Ready(Err(self.source.late()))
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

    /// Waits until the source has begun, or a NAR of one piece has been proven, but not for long: what goes wrong up to then
    /// can still be said in the head of a response, and later only by breaking its body.
    pub async fn prime(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| {
            while self.passed.is_some() && (self.held.is_none() || self.source.is_finished()) {
                ready!(self.poll_advance(context, &mut |_| ()))?;
            }
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(LONGEST_BEGINNING, begun).await.unwrap_or(Ok(()))
    }

    /// Waits for the next bytes, as [`VerifyingNar::poll_chunk`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// The index of the whole NAR, where that is read from files.
    pub(crate) fn index(&self) -> Option<Arc<Layout>> {
        match &self.source {
            Source::Files(files) => Some(Arc::clone(files.layout())),
            Source::Daemon(_) => None,
        }
    }

    /// Whether its bytes are not hashed, since they have been proven before.
    pub(crate) const fn is_proven(&self) -> bool {
        matches!(self.passed, Some(Passed { sha256: None, .. }))
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
        let Claim { path, nar_hash, .. } = &self.claim;
        let (found, size) = passed.finish();
        if size == self.length && found == Some(*nar_hash) {
            if let (Some(seen), Source::Files(files)) = (self.seen, &self.source) {
                self.proven.add(&self.claim, seen, files.modified());
            }
            return Ok(());
        }
        self.check_looks()?;
        if size != self.length {
            return Err(StoreError::WrongSize { path: path.clone(), expected: self.length, found: size });
        }
        match found {
            Some(found) => Err(StoreError::WrongHash { path: path.clone(), expected: *nar_hash, found }),
            None => Ok(()),
        }
    }

    /// Whether the path looks as it did before: if not, bytes that were not hashed need not be the proven ones, and wrong
    /// ones prove nothing.
    pub(crate) fn check_looks(&self) -> Result<(), StoreError> {
        let Claim { path, .. } = &self.claim;
        if self.proven.look(path) == self.seen { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
    }
}
