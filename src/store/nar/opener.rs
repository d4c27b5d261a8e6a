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

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;

use crate::config::{Config, NarSource, Verify};
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::nar::expected::Claim;
use crate::store::nar::files::same_store::{SameStore, Standing};
use crate::store::nar::files::store_files::NarFiles;
use crate::store::nar::quarantine::{HeldBack, Origin};
use crate::store::nar::verified::Proven;
use crate::store::nar::verifying::{Source, Terms, VerifyingNar};
use crate::store::path_info::cache::InfoCache;
use crate::store::path_info::path_stamp::Sighting;
use crate::store::path_info::single_flight::Flights;
use crate::store::path_info::valid_path::ValidPath;

/// How long a NAR waits for its files to be compared with what the daemon says, which some hundred megabytes take. Then it
/// is dumped by the daemon, and the next one may tell.
const LONGEST_COMPARISON: Duration = Duration::from_millis(500);

/// A NAR of so many bytes is proven for a part of it, so that further parts cost no more than their bytes. Of larger ones
/// parts are cut out of the daemon's dump until somebody has read all.
const MAX_PROVEN_FOR_A_PART: u64 = 64 << 20;

/// The NARs of one store.
#[derive(Debug)]
pub(crate) struct Nars {
    pool: Arc<Pool>,
    infos: Arc<InfoCache>,
    proven: Arc<Proven>,
    held_back: Arc<HeldBack>,
    /// Nothing if they are not to be read.
    files: Option<Arc<NarFiles>>,
    /// Whether they are the daemon's; nothing if that is not the question.
    same_store: Option<SameStore>,
    verify: Verify,
    proving: Arc<Flights<HashPart, Result<(), StoreError>>>,
}

impl Nars {
    /// As `config` says.
    pub(crate) fn new(
        config: &Config,
        directory: &Path,
        pool: Arc<Pool>,
        infos: Arc<InfoCache>,
        held_back: Arc<HeldBack>,
        metrics: &Metrics,
    ) -> Self {
        let files = (config.nar_source != NarSource::Daemon).then(|| Arc::new(NarFiles::new(directory, metrics)));
        let same_store = (config.nar_source == NarSource::Auto).then(|| SameStore::unknown(directory));
        let asks_for_proofs = files.is_some() || config.verify == Verify::Once;
        let proven = Arc::new(if asks_for_proofs { Proven::new(directory) } else { Proven::nothing() });
        Self { pool, infos, proven, held_back, files, same_store, verify: config.verify, proving: Flights::new() }
    }

    /// Reads no files any more, since those of this path are not what the daemon dumps.
    pub(crate) fn distrust_files(&self, claim: &Claim) {
        if let Some(same_store) = &self.same_store {
            same_store.is_refuted(&format_args!("{} differs", claim.path));
        }
    }

    /// Reads the files of a path and compares them with what the daemon says of it: whether they are that, or why not;
    /// `None` if no files are to be read, or none can be.
    pub(crate) async fn compare(&self, valid: &ValidPath) -> Option<Result<(), StoreError>> {
        let (files, claim) = (self.files.as_ref()?, Claim::of(valid));
        let seen = self.proven.look(&claim.path)?;
        match self.prove(files, &claim, Some(seen), Origin::FilesCompared).await {
            Ok(()) => self.proven.may_hold(&claim, seen).then_some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    /// All of it, hashed or not as the configuration says.
    pub(crate) async fn whole(&self, valid: &ValidPath, client: ClientId) -> Result<VerifyingNar, StoreError> {
        self.open(valid, Some(self.verify), client).await
    }

    /// All of it, hashed.
    pub(crate) async fn hashed(&self, valid: &ValidPath, client: ClientId) -> Result<VerifyingNar, StoreError> {
        self.open(valid, Some(Verify::Always), client).await
    }

    /// For its index, which takes no more than one proof.
    pub(crate) async fn to_index(&self, valid: &ValidPath, client: ClientId) -> Result<VerifyingNar, StoreError> {
        self.open(valid, Some(Verify::Once), client).await
    }

    /// So many bytes from `first` on, if they can be had without reading others.
    pub(crate) async fn part_at_hand(
        &self,
        valid: &ValidPath,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Option<VerifyingNar> {
        let claim = Claim::of(valid);
        let is_known = self.same_store.as_ref().is_none_or(|it| it.standing() == Standing::Same);
        let files = self.files.as_ref().filter(|_| is_known && !self.is_left_to_the_daemon(&claim))?;
        let has_to_be_proven = self.same_store.is_some() || reaches_end(valid, first, length);
        let seen = self.proven.look(&claim.path);
        let seen = seen.filter(|seen| !has_to_be_proven || self.proven.may_hold(&claim, *seen))?;
        // Why not is told by the other ways to have them.
        let mut stream = files.open(&claim, Some(seen), first..first + length, client).await.ok()??;
        if has_to_be_proven && !self.proven.holds(&claim, seen, stream.modified()) {
            return None;
        }
        stream.hold_to(seen);
        Some(VerifyingNar::part(
            Source::Files(stream),
            self.terms(claim, Some(seen), true, self.files_origin()),
            first,
            length,
        ))
    }

    /// The same, when as much has been proven as has to be; or all of it, if there are only dumps.
    pub(crate) async fn part(
        &self,
        valid: &ValidPath,
        first: u64,
        length: u64,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let (claim, is_end) = (Claim::of(valid), reaches_end(valid, first, length));
        if is_end || (self.same_store.is_some() && claim.nar_size <= MAX_PROVEN_FOR_A_PART) {
            let seen = self.proven.look(&claim.path);
            if let Some(files) = self.files_of(&claim, seen).await {
                self.prove(files, &claim, seen, self.files_origin()).await?;
            }
        }
        match self.part_at_hand(valid, first, length, client).await {
            Some(part) => Ok(part),
            None => self.open(valid, is_end.then_some(self.verify), client).await,
        }
    }

    /// All of it, hashed as `verify` says, or not at all.
    async fn open(
        &self,
        valid: &ValidPath,
        verify: Option<Verify>,
        client: ClientId,
    ) -> Result<VerifyingNar, StoreError> {
        let claim = Claim::of(valid);
        let seen = self.proven.look(&claim.path);
        let files = match (verify, &self.same_store) {
            (None, Some(_)) => None,
            _ => self.files_of(&claim, seen).await,
        };
        if let Some(files) = files {
            let origin = self.files_origin();
            match files.open(&claim, seen, 0..claim.nar_size, client).await {
                Ok(Some(mut stream)) => {
                    let mut is_proven = verify.is_none();
                    if let Some(seen) = seen {
                        is_proven |= verify == Some(Verify::Once) && self.proven.holds(&claim, seen, stream.modified());
                        if is_proven {
                            stream.hold_to(seen);
                        }
                    }
                    return Ok(VerifyingNar::new(Source::Files(stream), self.terms(claim, seen, is_proven, origin)));
                }
                Ok(None) => {}
                Err(error) => {
                    self.infos.doubt(claim.path.hash_part(), &error);
                    self.held_back.consider(&claim, &error, origin);
                    if origin == Origin::Files {
                        return Err(error);
                    }
                }
            }
        }
        let stream = self.pool.nar(client, &claim.path, claim.nar_size).await;
        let stream = stream.inspect_err(|error| self.infos.doubt(claim.path.hash_part(), error))?;
        let terms = self.terms(claim, seen, verify.is_none(), Origin::Daemon);
        Ok(VerifyingNar::new(Source::Daemon(Box::new(stream)), terms))
    }

    /// The files, if the NAR of this path is to be read from them.
    async fn files_of(&self, claim: &Claim, seen: Option<Sighting>) -> Option<&Arc<NarFiles>> {
        let files = self.files.as_ref()?;
        let Some(same_store) = &self.same_store else { return Some(files) };
        let seen = seen.filter(|_| !self.is_left_to_the_daemon(claim))?;
        match same_store.standing() {
            Standing::Same => return Some(files),
            Standing::Other => return None,
            Standing::Unknown(_) => {}
        }
        let compared = self.prove(files, claim, Some(seen), Origin::FilesCompared);
        match tokio::time::timeout(LONGEST_COMPARISON, compared).await {
            // Files that cannot be read have not been compared.
            Ok(Ok(())) if self.proven.may_hold(claim, seen) => same_store.agrees(),
            Ok(Err(error)) if error.is_mismatch() => same_store.differs(&error),
            _ => {}
        }
        (same_store.standing() == Standing::Same).then_some(files)
    }

    /// Whether the daemon is the judge of this path's files.
    fn is_left_to_the_daemon(&self, claim: &Claim) -> bool {
        self.same_store.is_some() && self.held_back.suspects(claim)
    }

    const fn files_origin(&self) -> Origin {
        if self.same_store.is_some() { Origin::FilesInDoubt } else { Origin::Files }
    }

    fn terms(&self, claim: Claim, seen: Option<Sighting>, is_proven: bool, origin: Origin) -> Terms {
        let (infos, proven, held_back) =
            (Arc::clone(&self.infos), Arc::clone(&self.proven), Arc::clone(&self.held_back));
        Terms { claim, infos, proven, held_back, origin, seen, is_proven }
    }

    /// Reads and hashes all files of a path that looks so, unless that has been done or they cannot be read. It goes on for
    /// as long as anybody waits.
    async fn prove(
        &self,
        files: &Arc<NarFiles>,
        claim: &Claim,
        seen: Option<Sighting>,
        origin: Origin,
    ) -> Result<(), StoreError> {
        if seen.is_none_or(|seen| self.proven.may_hold(claim, seen)) {
            return Ok(());
        }
        let hash = claim.path.hash_part();
        let (ticket, flight) = self.proving.board(hash, ClientId::Server);
        if let Some(flight) = flight {
            let (files, claim) = (Arc::clone(files), claim.clone());
            let terms = self.terms(claim.clone(), seen, false, origin);
            tokio::spawn(flight.fly(async move {
                let stream = files.open(&claim, seen, 0..claim.nar_size, ClientId::Server).await;
                if let Some(stream) = stream.inspect_err(|error| terms.held_back.consider(&claim, error, origin))? {
                    let mut nar = VerifyingNar::new(Source::Files(stream), terms);
                    while nar.chunk().await?.is_some() {}
                }
                Ok(())
            }));
        }
        ticket.arrival().await.unwrap_or(Err(StoreError::Abandoned(hash)))
    }
}

/// Whether so many bytes from `first` on are all that there are from there.
fn reaches_end(valid: &ValidPath, first: u64, length: u64) -> bool {
    first + length == valid.info.nar_size
}
