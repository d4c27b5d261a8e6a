//! A NAR that is verified while it is read: it ends without an error only if its size and hash match its path info.
//!
//! This holds for any source. Bytes are not hashed only if they were verified before and the path has not changed since
//! (see `verified`), as is the case for ranges.

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

/// Time that a response waits for the first bytes of its NAR: clients want a head within a second.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, counted and hashed while they are read.
///
/// The last chunk is withheld until size and hash are verified, so that nobody forwards a complete but wrong NAR.
/// Dropping it closes its connection to nix-daemon, unless the NAR has been read to its end.
#[derive(Debug)]
pub struct VerifyingNar {
    source: Source,
    expected: ExpectedNar,
    /// Offset of its first byte in the whole NAR, and its length.
    first: u64,
    length: u64,
    /// Marks the path info stale if the NAR fails.
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    /// Gets the path if the NAR does not match.
    quarantine: Arc<Quarantine>,
    origin: Origin,
    /// Stamp of the path before anything was read.
    seen: Option<PathStamp>,
    /// Digest of what was read; `None` after the end.
    digest: Option<Digest>,
    /// Chunk that is returned when the next one has come, or the NAR is verified.
    withheld: Option<Bytes>,
    /// Runs while the source has no bytes.
    stall_timer: Option<Pin<Box<Sleep>>>,
    /// Protects the path from the garbage collector.
    _root: Option<RootGuard>,
}

/// Source of the bytes.
#[derive(Debug)]
pub(crate) enum Source {
    /// nix-daemon's dump.
    Daemon(Box<NarStream<PooledClient, Transport>>),
    /// The store's files.
    Files(FileStream),
}

impl Source {
    /// Reads the next bytes, and visits the events in them if they are a dump's. For files, the index has all events.
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

    /// Returns the error of a source that stalls.
    fn timeout(&self) -> StoreError {
        match self {
            Self::Daemon(_) => StoreError::Timeout(Deadline::NarBytes),
            Self::Files(stream) => stream.timeout(),
        }
    }
}

/// What a NAR is verified against, and who is told about the result.
#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) expected: ExpectedNar,
    pub(crate) path_infos: Arc<PathInfoCache>,
    pub(crate) verified: Arc<VerifiedNars>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) origin: Origin,
    pub(crate) seen: Option<PathStamp>,
    /// Whether the bytes were verified before, with this stamp.
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

    /// Holds a GC root until it is dropped.
    pub(crate) fn with_root(self, root: Option<RootGuard>) -> Self {
        Self { _root: root, ..self }
    }

    /// Returns the store path.
    pub const fn path(&self) -> &StorePath {
        &self.expected.path
    }

    /// Returns the permit that it holds until it is dropped: for a connection to nix-daemon, or for memory to read
    /// files into.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.source.permit()
    }

    /// Returns the offset of its first byte in the whole NAR.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Polls for the next bytes; `None` after the last ones. It must not be polled after an error.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        self.poll_chunk_with(context, &mut |_| ())
    }

    /// Polls for the next bytes, and visits the events in what was read if the source is a dump.
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

    /// Reads one more chunk from the source, or verifies the NAR at its end. Returns the chunk that was withheld
    /// before.
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

    /// Waits briefly until the first bytes have come, or a NAR of one chunk is verified. Errors up to then can still
    /// become a status code; later ones can only abort the body.
    pub async fn prime(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| {
            while self.digest.is_some() && (self.withheld.is_none() || self.source.is_finished()) {
                ready!(self.poll_advance(context, &mut |_| ()))?;
            }
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(LONGEST_BEGINNING, begun).await.unwrap_or(Ok(()))
    }

    /// Waits for the next bytes; `None` after the last ones.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Returns the index of the whole NAR, if it is read from files.
    pub(crate) fn index(&self) -> Option<Arc<Layout>> {
        match &self.source {
            Source::Files(files) => Some(Arc::clone(files.layout())),
            Source::Daemon(_) => None,
        }
    }

    /// Returns whether its bytes were verified before and are not hashed.
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

    /// Checks that the path still has its stamp. If not, bytes that were not hashed may be others, and a mismatch is no
    /// fault of the path info.
    pub(crate) fn check_stamp(&self) -> Result<(), StoreError> {
        let ExpectedNar { path, .. } = &self.expected;
        if self.verified.stamp(path) == self.seen { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
    }
}
