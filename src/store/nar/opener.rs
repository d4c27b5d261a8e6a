//! Choice of the source of a NAR, and of whether it is hashed.
//!
//! The source is nix-daemon's dump, or the store's files if `nar_source` says so, or is `"auto"` and they are those of
//! nix-daemon's store. [`VerifyingNar`] compares both with the same path info. A range that reaches the end of the NAR
//! completes it, so it is read from files only if the whole was verified; if not, the whole is read and hashed first,
//! once for all who wait. Other ranges are not verified, whatever the source: only the size of the NAR is checked.
//!
//! With `"auto"`, ranges are read only from verified files. A path whose files have failed is dumped by nix-daemon; if
//! the dump is right and the files have not changed, they belong to another store.

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

/// Time that a NAR waits for its files to be compared with its path info, enough for some hundred megabytes. After that
/// nix-daemon dumps it.
const LONGEST_COMPARISON: Duration = Duration::from_millis(500);

/// Upper bound of a NAR that is verified for the sake of a range, in bytes. Ranges of larger ones are cut out of
/// nix-daemon's dump until somebody has read the whole.
const MAX_VERIFIED_FOR_RANGE: u64 = 64 << 20;

/// Opens the NARs of one store.
#[derive(Debug)]
pub(crate) struct NarOpener {
    pool: Arc<Pool>,
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    quarantine: Arc<Quarantine>,
    /// `None` if files are not read.
    files: Option<Arc<StoreFiles>>,
    /// Whether the files belong to nix-daemon's store; `None` unless `nar_source` is `"auto"`.
    same_store: Option<SameStore>,
    verify: Verify,
    verifying: Arc<SingleFlight<HashPart, Result<(), StoreError>>>,
}

impl NarOpener {
    /// Creates an opener as configured.
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
        let asks_for_proofs = files.is_some() || config.verify == Verify::Once;
        let verified = Arc::new(if asks_for_proofs { VerifiedNars::new(directory) } else { VerifiedNars::disabled() });
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

    /// Stops reading files, because those of this path differ from nix-daemon's dump.
    pub(crate) fn report_mismatch(&self, expected: &ExpectedNar) {
        if let Some(same_store) = &self.same_store {
            same_store.is_refuted(&format_args!("{} differs", expected.path));
        }
    }

    /// Compares the files of a path with its path info; `None` if files are not read or not readable.
    pub(crate) async fn compare(&self, valid: &ValidPath) -> Option<Result<(), StoreError>> {
        let (files, expected) = (self.files.as_ref()?, ExpectedNar::from_valid_path(valid));
        let seen = self.verified.stamp(&expected.path)?;
        match self.verify_files(files, &expected, Some(seen), Origin::ComparedFiles).await {
            Ok(()) => self.verified.may_contain(&expected, seen).then_some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    /// Opens a NAR: a range alone if that can be done, and else the whole.
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

    /// Opens a range, if it can be read without reading anything else first.
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
        let seen = self.verified.stamp(&expected.path);
        let seen = seen.filter(|seen| !must_be_verified || self.verified.may_contain(&expected, *seen))?;
        // Errors are reported by the caller's other ways to get these bytes.
        let mut stream = files.open(&expected, Some(seen), range.clone(), client).await.ok()??;
        if must_be_verified && !self.verified.contains(&expected, seen, stream.modified()) {
            return None;
        }
        stream.require_stamp(seen);
        let expectation = self.expectation(expected, Some(seen), true, self.files_origin());
        Some(VerifyingNar::range(Source::Files(stream), expectation, range))
    }

    /// Opens a range after verifying as much as necessary, or the whole NAR if nix-daemon has to dump it.
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
            let seen = self.verified.stamp(&expected.path);
            if let Some(files) = self.files_of(&expected, seen).await {
                self.verify_files(files, &expected, seen, self.files_origin()).await?;
            }
        }
        match self.verified_range(valid, range, client).await {
            Some(nar) => Ok(nar),
            None => self.whole(valid, reaches_end.then_some(verify), client).await,
        }
    }

    /// Opens the whole NAR, to be hashed as `verify` says, or not at all.
    async fn whole(
        &self,
        valid: &ValidPath,
        verify: Option<Verify>,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let expected = ExpectedNar::from_valid_path(valid);
        let seen = self.verified.stamp(&expected.path);
        let files = match (verify, &self.same_store) {
            (None, Some(_)) => None,
            _ => self.files_of(&expected, seen).await,
        };
        if let Some(files) = files {
            let origin = self.files_origin();
            match files.open(&expected, seen, 0..expected.nar_size, client).await {
                Ok(Some(mut stream)) => {
                    let mut is_verified = verify.is_none();
                    if let Some(seen) = seen {
                        is_verified |=
                            verify == Some(Verify::Once) && self.verified.contains(&expected, seen, stream.modified());
                        if is_verified {
                            stream.require_stamp(seen);
                        }
                    }
                    return Ok(VerifyingNar::new(
                        Source::Files(stream),
                        self.expectation(expected, seen, is_verified, origin),
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
        let expectation = self.expectation(expected, seen, verify.is_none(), Origin::Daemon);
        Ok(VerifyingNar::new(Source::Daemon(Box::new(stream)), expectation))
    }

    /// Returns the files, if the NAR of this path is to be read from them.
    async fn files_of(&self, expected: &ExpectedNar, seen: Option<PathStamp>) -> Option<&Arc<StoreFiles>> {
        let files = self.files.as_ref()?;
        let Some(same_store) = &self.same_store else { return Some(files) };
        let seen = seen.filter(|_| !self.uses_daemon_only(expected))?;
        match same_store.standing() {
            Standing::Same => return Some(files),
            Standing::Other => return None,
            Standing::Unknown(_) => {}
        }
        let compared = self.verify_files(files, expected, Some(seen), Origin::ComparedFiles);
        match tokio::time::timeout(LONGEST_COMPARISON, compared).await {
            // Unreadable files were not compared.
            Ok(Ok(())) if self.verified.may_contain(expected, seen) => same_store.agrees(),
            Ok(Err(error)) if error.is_mismatch() => same_store.differs(&error),
            _ => {}
        }
        (same_store.standing() == Standing::Same).then_some(files)
    }

    /// Returns whether this path is suspected, so that nix-daemon dumps it.
    fn uses_daemon_only(&self, expected: &ExpectedNar) -> bool {
        self.same_store.is_some() && self.quarantine.is_suspected(expected)
    }

    const fn files_origin(&self) -> Origin {
        if self.same_store.is_some() { Origin::UnconfirmedFiles } else { Origin::Files }
    }

    fn expectation(
        &self,
        expected: ExpectedNar,
        seen: Option<PathStamp>,
        is_verified: bool,
        origin: Origin,
    ) -> Expectation {
        let (path_infos, verified, quarantine) =
            (Arc::clone(&self.path_infos), Arc::clone(&self.verified), Arc::clone(&self.quarantine));
        Expectation { expected, path_infos, verified, quarantine, origin, seen, is_verified }
    }

    /// Reads and hashes all files of a path with this stamp, unless they were verified or cannot be read. Continues for
    /// as long as anybody waits.
    async fn verify_files(
        &self,
        files: &Arc<StoreFiles>,
        expected: &ExpectedNar,
        seen: Option<PathStamp>,
        origin: Origin,
    ) -> Result<(), StoreError> {
        if seen.is_none_or(|seen| self.verified.may_contain(expected, seen)) {
            return Ok(());
        }
        let hash = expected.path.hash_part();
        let (waiter, leader) = self.verifying.join(hash, ClientId::Server);
        if let Some(leader) = leader {
            let (files, expected) = (Arc::clone(files), expected.clone());
            let expectation = self.expectation(expected.clone(), seen, false, origin);
            tokio::spawn(leader.run(async move {
                let stream = files.open(&expected, seen, 0..expected.nar_size, ClientId::Server).await;
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
