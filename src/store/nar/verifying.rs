//! A stream of a NAR that ends without an error only if size and hash match the path info.
//!
//! Hashing is skipped for files that were verified before and have not changed since (`verified`), which includes every
//! range that is read alone.

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

/// Time limit of [`VerifyingNar::prime`]: clients expect a response head within a second.
const PRIME_TIMEOUT: Duration = Duration::from_millis(500);

/// The bytes of a valid path's NAR, hashed and counted as they pass.
///
/// The last chunk is withheld until size and hash are verified, so no client receives a complete NAR that is corrupt.
/// Dropping it before its end closes its connection to nix-daemon.
#[derive(Debug)]
pub struct VerifyingNar {
    source: Source,
    expected: ExpectedNar,
    /// Offset of the first byte in the whole NAR.
    first: u64,
    /// Number of bytes expected.
    length: u64,
    /// Cache whose entry for the path is marked stale if the NAR fails.
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    /// Told of every failure.
    quarantine: Arc<Quarantine>,
    origin: Origin,
    /// Stamp of the path before anything was read.
    stamp: Option<PathStamp>,
    /// `None` once the end has been reached.
    digest: Option<Digest>,
    /// Chunk that is returned once the next one has arrived or the NAR is verified.
    withheld: Option<Bytes>,
    /// Runs while the source has no bytes ready.
    stall_timer: Option<Pin<Box<Sleep>>>,
    /// Protects the path from the garbage collector.
    _root: Option<RootGuard>,
}

/// Source of a NAR's bytes.
#[derive(Debug)]
pub(crate) enum Source {
    /// A dump by nix-daemon.
    Daemon(Box<NarStream<PooledClient, Transport>>),
    /// The store's files.
    Files(FileStream),
}

impl Source {
    /// Polls for the next bytes and passes the events in them to `visit`: only of a dump, since files have an index.
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

    /// Returns the error for a source that stalls.
    fn timeout(&self) -> StoreError {
        match self {
            Self::Daemon(_) => StoreError::Timeout(Deadline::NarBytes),
            Self::Files(stream) => stream.timeout(),
        }
    }
}

/// Path info that a NAR is verified against, and the places where the result is recorded.
#[derive(Debug)]
pub(crate) struct Expectation {
    pub(crate) expected: ExpectedNar,
    pub(crate) path_infos: Arc<PathInfoCache>,
    pub(crate) verified: Arc<VerifiedNars>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) origin: Origin,
    /// Stamp of the path before the NAR was opened.
    pub(crate) stamp: Option<PathStamp>,
    /// Set if the files were verified before at that stamp: the bytes are not hashed.
    pub(crate) is_verified: bool,
}

impl VerifyingNar {
    /// Wraps a source of the whole NAR that has not been read from.
    pub(crate) fn new(source: Source, expectation: Expectation) -> Self {
        let range = 0..expectation.expected.nar_size;
        Self::range(source, expectation, &range)
    }

    /// Wraps a source of a range of the NAR, which must be verified already unless it is the whole NAR.
    pub(crate) fn range(source: Source, expectation: Expectation, range: &Range<u64>) -> Self {
        let (first, length) = (range.start, range.end - range.start);
        let Expectation { expected, path_infos, verified, quarantine, origin, stamp, is_verified } = expectation;
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
            stamp,
            digest,
            withheld: None,
            stall_timer: None,
            _root: None,
        }
    }

    /// Keeps a GC root until the NAR is dropped.
    pub(crate) fn with_root(self, root: Option<RootGuard>) -> Self {
        Self { _root: root, ..self }
    }

    /// Returns the store path.
    pub const fn path(&self) -> &StorePath {
        &self.expected.path
    }

    /// Returns the permit held until the NAR is dropped: for a connection to nix-daemon, or for memory to read files.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.source.permit()
    }

    /// Returns the offset of the first byte in the whole NAR.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Polls for the next bytes; `None` at the end. Must not be polled again after an error.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StoreError>> {
        self.poll_chunk_with(context, &mut |_| ())
    }

    /// Polls as [`VerifyingNar::poll_chunk`] does, and passes the events of a dump to `visit` as they are read.
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

    /// Reads one more chunk, or verifies the NAR at its end. Returns the chunk withheld before, and reports errors.
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

    /// Waits, up to half a second, for the first bytes, or the end of a NAR of a single chunk.
    ///
    /// An error up to then can still become the response's status; a later one can only break off its body.
    pub async fn prime(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| {
            while self.digest.is_some() && (self.withheld.is_none() || self.source.is_finished()) {
                ready!(self.poll_advance(context, &mut |_| ()))?;
            }
            Poll::Ready(Ok(()))
        });
        tokio::time::timeout(PRIME_TIMEOUT, begun).await.unwrap_or(Ok(()))
    }

    /// Waits for the next bytes, as [`VerifyingNar::poll_chunk`].
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

    /// Returns whether the bytes are not hashed because they were verified before.
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
            if let (Some(stamp), Source::Files(files)) = (self.stamp, &self.source) {
                self.verified.add(&self.expected, stamp, files.modified());
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

    /// Fails if the path's stamp has changed: bytes that were not hashed may be unverified then, and a mismatch proves
    /// nothing.
    pub(crate) fn check_stamp(&self) -> Result<(), StoreError> {
        let ExpectedNar { path, .. } = &self.expected;
        if self.verified.stamp(path) == self.stamp { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
    }
}
