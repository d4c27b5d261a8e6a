//! A NAR that cannot lie: it ends well only if its size and hash are those of its path info.
//!
//! Where the bytes come from makes no difference to that, nor does whether they are all of them: a part of a NAR is one of
//! bytes that have been proven. The hash is left out only for bytes that have been proven before, of a path that has not changed since (`proven`).

use std::ops::Range;
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
use crate::store::daemon::connections::PooledClient;
use crate::store::daemon::deadline::Deadline;
use crate::store::daemon::transport::Transport;
use crate::store::error::StoreError;
use crate::store::gc_roots::shared::RootGuard;
use crate::store::nar::digest::Digest;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::stream::FileStream;
use crate::store::nar::quarantine::{Origin, Quarantine};
use crate::store::nar::verified::VerifiedNars;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::path_stamp::PathStamp;

/// How long a response waits for the first bytes of its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, hashed and counted as they pass.
///
/// The last piece is withheld until size and hash are proven, so whoever passes the bytes on has not passed on a
/// complete NAR before. Dropping it closes its connection to the daemon, unless the NAR has been read to its end.
#[derive(Debug)]
pub struct VerifyingNar {
    source: Source,
    expected: ExpectedNar,
    /// Where its first byte is in the whole NAR, and how many bytes there are to be.
    first: u64,
    length: u64,
    /// Where the path info may come from, which is doubtful once the NAR has failed.
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    /// Where its path goes if it turns out to be wrong.
    quarantine: Arc<Quarantine>,
    origin: Origin,
    /// How the path looked before anything was read.
    seen: Option<PathStamp>,
    /// What has passed; nothing once the end has been reached.
    digest: Option<Digest>,
    /// The piece that is handed on when the next one has come or all is proven.
    withheld: Option<Bytes>,
    /// Runs while the source owes us bytes.
    stall_timer: Option<Pin<Box<Sleep>>>,
    /// What keeps the path alive.
    _root: Option<RootGuard>,
}

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The daemon's dump.
    Daemon(Box<NarStream<PooledClient, Transport>>),
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
    fn timeout(&self) -> StoreError {
        match self {
            Self::Daemon(_) => StoreError::Timeout(Deadline::NarBytes),
            Self::Files(stream) => stream.timeout(),
        }
    }
}

/// What a NAR is held against: what is known of its path, and how that looked before the NAR was asked for.
#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) expected: ExpectedNar,
    pub(crate) path_infos: Arc<PathInfoCache>,
    pub(crate) verified: Arc<VerifiedNars>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) origin: Origin,
    pub(crate) seen: Option<PathStamp>,
    /// Whether its bytes have been proven before, as the path looks.
    pub(crate) is_verified: bool,
}

impl VerifyingNar {
    /// Wraps a source of the whole NAR of which nothing has been read.
    pub(crate) fn new(source: Source, expectation: Expectation) -> Self {
        let range = 0..expectation.expected.nar_size;
        Self::range(source, expectation, &range)
    }

    /// Wraps a source of a range of the NAR, which has to be verified already unless it is the whole.
    pub(crate) fn range(source: Source, expectation: Expectation, range: &Range<u64>) -> Self {
        let (first, length) = (range.start, range.end - range.start);
        let Expectation { expected, path_infos, verified, quarantine, origin, seen, is_verified } = expectation;
        let digest = Some(Digest::new(!is_verified));
        Self {
            source,
            expected,
            first,
            length,
            path_infos,
            verified,
            quarantine,
            origin,
            seen,
            digest,
            withheld: None,
            stall_timer: None,
            _root: None,
        }
    }

    /// The same, which keeps its path alive until it is dropped.
    pub(crate) fn with_root(self, root: Option<RootGuard>) -> Self {
        Self { _root: root, ..self }
    }

    /// The path whose NAR it is.
    pub const fn path(&self) -> &StorePath {
        &self.expected.path
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
        while self.digest.is_some() {
            if let Some(before) = ready!(self.poll_advance(context, visit))? {
                return Poll::Ready(Ok(Some(before)));
            }
        }
        Poll::Ready(Ok(self.withheld.take()))
    }

    /// Takes one piece more from the source, or proves the NAR at its end. The result is the piece that was held before.
    fn poll_advance(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let advanced = self.poll_next(context, visit);
        if let Poll::Ready(Err(error)) = &advanced {
            self.path_infos.mark_stale(self.expected.path.hash_part(), error);
            self.verified.invalidate(self.expected.path.hash_part());
            self.quarantine.report(&self.expected, error, self.origin);
        }
        advanced
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Poll<Result<Option<Bytes>, StoreError>> {
        let Some(digest) = &mut self.digest else { return Poll::Ready(Ok(None)) };
        match self.source.poll_chunk_with(&self.expected.path, context, visit) {
            Poll::Pending => {
                let deadline = Deadline::NarBytes.duration();
                let stall_timer = self.stall_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
                ready!(stall_timer.as_mut().poll(context));
                Poll::Ready(Err(self.source.timeout()))
            }
            Poll::Ready(chunk) => match chunk? {
                Some(bytes) => {
                    self.stall_timer = None;
                    digest.update(&bytes);
                    Poll::Ready(Ok(self.withheld.replace(bytes)))
                }
                None => Poll::Ready(self.verify().map(|()| None)),
            },
        }
    }

    /// Waits until the source has begun, or a NAR of one piece has been proven, but not for long: what goes wrong up to then
    /// can still be said in the head of a response, and later only by breaking its body.
    pub async fn prime(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| {
            while self.digest.is_some() && (self.withheld.is_none() || self.source.is_finished()) {
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
    pub(crate) const fn is_verified(&self) -> bool {
        matches!(self.digest, Some(Digest { sha256: None, .. }))
    }

    fn verify(&mut self) -> Result<(), StoreError> {
        let Some(digest) = self.digest.take() else { return Ok(()) };
        let result = self.compare(digest);
        if result.is_err() {
            self.withheld = None;
        }
        result
    }

    fn compare(&self, digest: Digest) -> Result<(), StoreError> {
        let ExpectedNar { path, nar_hash, .. } = &self.expected;
        let (found, size) = digest.finish();
        if size == self.length && found == Some(*nar_hash) {
            if let (Some(seen), Source::Files(files)) = (self.seen, &self.source) {
                self.verified.add(&self.expected, seen, files.modified());
            }
            return Ok(());
        }
        self.check_stamp()?;
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
    pub(crate) fn check_stamp(&self) -> Result<(), StoreError> {
        let ExpectedNar { path, .. } = &self.expected;
        if self.verified.stamp(path) == self.seen { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
    }
}
