//! Where the bytes of a NAR come from, and whether they are hashed.
//!
//! Owns the choice: the daemon's dump, or the store's files (`nar_files`) where the configuration says so, or leaves it
//! open and they are those of the daemon's store, and they can be read. Both are held against the same path info by
//! [`VerifyingNar`]. A part of a NAR is read from files only if all of them have been proven, of a path that looks the same since:
//! else the whole is read and hashed first, once for all who wait. That is so of a part that reaches the end, which says
//! that the NAR is complete. Of others nothing could be proven where they come from a dump, so they are not from files
//! either; that the path's size is right and stays so is all that holds.
//!
//! Where the choice is open the daemon is the judge: its dumps prove nothing about files, no part of a NAR is read from
//! files that are not proven, a path whose files have failed is dumped by it, and if that is right while the files are as
//! they were, they are another store's.

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

/// How long a NAR waits for its files to be compared with what the daemon says, which some hundred megabytes take. Then it
/// is dumped by the daemon, and the next one may tell.
const LONGEST_COMPARISON: Duration = Duration::from_millis(500);

/// A NAR of so many bytes is proven for a part of it, so that further parts cost no more than their bytes. Of larger ones
/// parts are cut out of the daemon's dump until somebody has read all.
const MAX_VERIFIED_FOR_RANGE: u64 = 64 << 20;

/// The NARs of one store.
#[derive(Debug)]
pub(crate) struct NarOpener {
    pool: Arc<Pool>,
    path_infos: Arc<PathInfoCache>,
    verified: Arc<VerifiedNars>,
    quarantine: Arc<Quarantine>,
    /// Nothing if they are not to be read.
    files: Option<Arc<StoreFiles>>,
    /// Whether they are the daemon's; nothing if that is not the question.
    same_store: Option<SameStore>,
    verify: Verify,
    verifying: Arc<SingleFlight<HashPart, Result<(), StoreError>>>,
}

impl NarOpener {
    /// As `config` says.
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

    /// Reads no files any more, since those of this path are not what the daemon dumps.
    pub(crate) fn report_mismatch(&self, expected: &ExpectedNar) {
        if let Some(same_store) = &self.same_store {
            same_store.is_refuted(&format_args!("{} differs", expected.path));
        }
    }

    /// Reads the files of a path and compares them with what the daemon says of it: whether they are that, or why not;
    /// `None` if no files are to be read, or none can be.
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

    /// The files, if the NAR of this path is to be read from them.
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
            // Files that cannot be read have not been compared.
            Ok(Ok(())) if self.verified.may_contain(expected, seen) => same_store.agrees(),
            Ok(Err(error)) if error.is_mismatch() => same_store.differs(&error),
            _ => {}
        }
        (same_store.standing() == Standing::Same).then_some(files)
    }

    /// Whether the daemon is the judge of this path's files.
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

    /// Reads and hashes all files of a path that looks so, unless that has been done or they cannot be read. It goes on for
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
