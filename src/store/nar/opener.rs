//! Chooses the source of a NAR's bytes, and whether they are hashed.
//!
//! The source is a dump by nix-daemon or the store's files, by `nar_source`: `daemon`, `files`, or `auto`, which reads
//! files once some have been found to match nix-daemon's path infos ([`SameStore`]). [`VerifyingNar`] verifies both.
//!
//! A range that reaches the end of the NAR tells the client that the NAR is complete. So it is read from files only if
//! all of them are verified and the path's stamp is unchanged; else the whole NAR is hashed first, once for all waiting
//! requests. With `files`, other ranges are read from files without a hash. With `auto`, no unverified range is.
//!
//! With `auto`, nix-daemon decides: a path whose files fail is dumped by nix-daemon, and if the dump is verified while
//! the files are unchanged, they are taken for those of another store.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;

use crate::config::{Config, NarSource, Verify};
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::same_store::{SameStore, Standing};
use crate::store::nar::files::store_files::StoreFiles;
use crate::store::nar::options::NarOptions;
use crate::store::nar::quarantine::{Origin, Quarantine};
use crate::store::nar::verified::VerifiedNars;
use crate::store::nar::verifying::{Expectation, Source, VerifyingNar};
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::single_flight::SingleFlight;
use crate::store::path_info::valid_path::ValidPath;

/// Time that a request waits while `auto` compares the path's files with nix-daemon: enough to hash some hundred
/// megabytes. Afterwards nix-daemon dumps the NAR.
const COMPARISON_TIMEOUT: Duration = Duration::from_millis(500);

/// Size of the largest NAR that is verified because a range of it is requested, in bytes. Ranges of larger ones are cut
/// from nix-daemon's dump until the whole NAR has been read once.
const MAX_VERIFIED_FOR_RANGE: u64 = 64 << 20;

/// Opens the NARs of one store.
#[derive(Debug)]
pub(crate) struct NarOpener {
    pool: Arc<Pool>,
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    quarantine: Arc<Quarantine>,
    /// `None` if NARs are not read from files.
    files: Option<Arc<StoreFiles>>,
    /// Whether the files are those of nix-daemon's store; `None` unless `nar_source = "auto"`.
    same_store: Option<SameStore>,
    verify: Verify,
    verifying: Arc<SingleFlight<HashPart, Result<(), StoreError>>>,
}

impl NarOpener {
    /// Creates an opener as configured; reads nothing yet.
    pub(crate) fn new(
        config: &Config,
        directory: &Path,
        pool: Arc<Pool>,
        path_infos: Arc<PathInfoCache>,
        quarantine: Arc<Quarantine>,
        metrics: &Metrics,
    ) -> Self {
        let files = (config.nar_source != NarSource::Daemon).then(|| Arc::new(StoreFiles::new(directory, metrics)));
        let same_store = (config.nar_source == NarSource::Auto).then(|| SameStore::unknown(directory));
        let records_verified = files.is_some() || config.verify == Verify::Once;
        let verified = Arc::new(if records_verified { VerifiedNars::new(directory) } else { VerifiedNars::disabled() });
        Self {
            pool,
            path_infos,
            verified,
            quarantine,
            files,
            same_store,
            verify: config.verify,
            verifying: SingleFlight::new(),
        }
    }

    /// Stops reading files, because those of this path differ from nix-daemon's verified dump.
    pub(crate) fn report_mismatch(&self, expected: &ExpectedNar) {
        if let Some(same_store) = &self.same_store {
            same_store.refute(&format_args!("{} differs", expected.path));
        }
    }

    /// Compares the files of a path with nix-daemon's path info. `None` if NARs are not read from files, or these
    /// cannot be read.
    pub(crate) async fn compare(&self, valid: &ValidPath) -> Option<Result<(), StoreError>> {
        let (files, expected) = (self.files.as_ref()?, ExpectedNar::from_valid_path(valid));
        let stamp = self.verified.stamp(&expected.path)?;
        match self.verify_files(files, &expected, Some(stamp), Origin::ComparedFiles).await {
            Ok(()) => self.verified.may_contain(&expected, stamp).then_some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    /// Opens a NAR: the range of the options alone if possible, else the whole.
    pub(crate) async fn open(
        &self,
        valid: &ValidPath,
        options: NarOptions,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let verify = options.verify.unwrap_or(self.verify);
        match options.range.filter(|range| range.end - range.start < valid.info.nar_size) {
            Some(range) => self.range(valid, &range, verify, client).await,
            None => self.whole(valid, Some(verify), client).await,
        }
    }

    /// Opens a range, if it can be read from files without verifying the NAR first.
    pub(crate) async fn verified_range(
        &self,
        valid: &ValidPath,
        range: &Range<u64>,
        client: ClientId,
    ) -> Option<VerifyingNar> {
        let expected = ExpectedNar::from_valid_path(valid);
        let is_same_store = self.same_store.as_ref().is_none_or(|it| it.standing() == Standing::Same);
        let files = self.files.as_ref().filter(|_| is_same_store && !self.uses_daemon_only(&expected))?;
        let must_be_verified = self.same_store.is_some() || range.end == expected.nar_size;
        let stamp = self.verified.stamp(&expected.path);
        let stamp = stamp.filter(|stamp| !must_be_verified || self.verified.may_contain(&expected, *stamp))?;
        // The caller falls back to a source that reports its errors.
        let mut stream = files.open(&expected, Some(stamp), range.clone(), client).await.ok()??;
        if must_be_verified && !self.verified.contains(&expected, stamp, stream.modified()) {
            return None;
        }
        stream.require_stamp(stamp);
        let expectation = self.expectation(expected, Some(stamp), true, self.files_origin());
        Some(VerifyingNar::range(Source::Files(stream), expectation, range))
    }

    /// Opens a range from files, verified first if necessary, or else the whole NAR.
    async fn range(
        &self,
        valid: &ValidPath,
        range: &Range<u64>,
        verify: Verify,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let expected = ExpectedNar::from_valid_path(valid);
        let reaches_end = range.end == expected.nar_size;
        if reaches_end || (self.same_store.is_some() && expected.nar_size <= MAX_VERIFIED_FOR_RANGE) {
            let stamp = self.verified.stamp(&expected.path);
            if let Some(files) = self.files_of(&expected, stamp).await {
                self.verify_files(files, &expected, stamp, self.files_origin()).await?;
            }
        }
        match self.verified_range(valid, range, client).await {
            Some(nar) => Ok(nar),
            None => self.whole(valid, reaches_end.then_some(verify), client).await,
        }
    }

    /// Opens the whole NAR, hashed as `verify` says; `None` skips the hash.
    async fn whole(
        &self,
        valid: &ValidPath,
        verify: Option<Verify>,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let expected = ExpectedNar::from_valid_path(valid);
        let stamp = self.verified.stamp(&expected.path);
        let files = match (verify, &self.same_store) {
            (None, Some(_)) => None,
            _ => self.files_of(&expected, stamp).await,
        };
        if let Some(files) = files {
            let origin = self.files_origin();
            match files.open(&expected, stamp, 0..expected.nar_size, client).await {
                Ok(Some(mut stream)) => {
                    let mut is_verified = verify.is_none();
                    if let Some(stamp) = stamp {
                        is_verified |=
                            verify == Some(Verify::Once) && self.verified.contains(&expected, stamp, stream.modified());
                        if is_verified {
                            stream.require_stamp(stamp);
                        }
                    }
                    return Ok(VerifyingNar::new(
                        Source::Files(stream),
                        self.expectation(expected, stamp, is_verified, origin),
                    ));
                }
                Ok(None) => {}
                Err(error) => {
                    self.path_infos.mark_stale(expected.path.hash_part(), &error);
                    self.quarantine.report(&expected, &error, origin);
                    if origin == Origin::Files {
                        return Err(error);
                    }
                }
            }
        }
        let stream = self.pool.nar(client, &expected.path, expected.nar_size).await;
        let stream = stream.inspect_err(|error| self.path_infos.mark_stale(expected.path.hash_part(), error))?;
        let expectation = self.expectation(expected, stamp, verify.is_none(), Origin::Daemon);
        Ok(VerifyingNar::new(Source::Daemon(Box::new(stream)), expectation))
    }

    /// Returns the store's files if this path's NAR is to be read from them; compares them first if that is undecided.
    async fn files_of(&self, expected: &ExpectedNar, stamp: Option<PathStamp>) -> Option<&Arc<StoreFiles>> {
        let files = self.files.as_ref()?;
        let Some(same_store) = &self.same_store else { return Some(files) };
        let stamp = stamp.filter(|_| !self.uses_daemon_only(expected))?;
        match same_store.standing() {
            Standing::Same => return Some(files),
            Standing::Other => return None,
            Standing::Unknown(_) => {}
        }
        let comparison = self.verify_files(files, expected, Some(stamp), Origin::ComparedFiles);
        match tokio::time::timeout(COMPARISON_TIMEOUT, comparison).await {
            // Unreadable files have not been compared, although the result is `Ok`.
            Ok(Ok(())) if self.verified.may_contain(expected, stamp) => same_store.record_match(),
            Ok(Err(error)) if error.is_mismatch() => same_store.record_difference(&error),
            _ => {}
        }
        (same_store.standing() == Standing::Same).then_some(files)
    }

    /// Returns whether the path is quarantined or suspected, so that only nix-daemon's dump is used.
    fn uses_daemon_only(&self, expected: &ExpectedNar) -> bool {
        self.same_store.is_some() && self.quarantine.is_suspected(expected)
    }

    const fn files_origin(&self) -> Origin {
        if self.same_store.is_some() { Origin::UnconfirmedFiles } else { Origin::Files }
    }

    fn expectation(
        &self,
        expected: ExpectedNar,
        stamp: Option<PathStamp>,
        is_verified: bool,
        origin: Origin,
    ) -> Expectation {
        let (path_infos, verified, quarantine) =
            (Arc::clone(&self.path_infos), Arc::clone(&self.verified), Arc::clone(&self.quarantine));
        Expectation { expected, path_infos, verified, quarantine, origin, stamp, is_verified }
    }

    /// Hashes all files of a path, unless they are verified at this stamp or cannot be read.
    ///
    /// Concurrent calls for one path share the work, which is cancelled when no caller waits any more.
    async fn verify_files(
        &self,
        files: &Arc<StoreFiles>,
        expected: &ExpectedNar,
        stamp: Option<PathStamp>,
        origin: Origin,
    ) -> Result<(), StoreError> {
        if stamp.is_none_or(|stamp| self.verified.may_contain(expected, stamp)) {
            return Ok(());
        }
        let hash = expected.path.hash_part();
        let (waiter, leader) = self.verifying.join(hash, ClientId::Server);
        if let Some(leader) = leader {
            let (files, expected) = (Arc::clone(files), expected.clone());
            let expectation = self.expectation(expected.clone(), stamp, false, origin);
            tokio::spawn(leader.run(async move {
                let stream = files.open(&expected, stamp, 0..expected.nar_size, ClientId::Server).await;
                if let Some(stream) =
                    stream.inspect_err(|error| expectation.quarantine.report(&expected, error, origin))?
                {
                    let mut nar = VerifyingNar::new(Source::Files(stream), expectation);
                    while nar.chunk().await?.is_some() {}
                }
                Ok(())
            }));
        }
        waiter.wait().await.unwrap_or(Err(StoreError::Abandoned(hash)))
    }
}
