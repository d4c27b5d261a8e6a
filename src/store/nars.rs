//! Where the bytes of a NAR come from, and whether they are hashed.
//!
//! Owns the choice: the daemon's dump, or the store's files (`nar_files`) where the configuration says so and they can be
//! read. Both are held against the same path info by [`Nar`]. A part of a NAR is read from files only if all of it has been
//! proven, of a path that looks the same since: else the whole is read and hashed first, once for all who wait. That is
//! so of a part that reaches the end, which says that the NAR is complete. Of others nothing could be proven where they
//! come from a dump, so they are not from files either; that the path's size is right and stays so is all that holds.

use std::path::Path;
use std::sync::Arc;

use harmonia_protocol::HashPart;

use super::flights::Flights;
use super::held_back::HeldBack;
use super::info_cache::InfoCache;
use super::nar::{Nar, Source, Terms};
use super::nar_files::NarFiles;
use super::pool::Pool;
use super::proven::{Claim, Proven};
use super::sighting::Sighting;
use super::{StoreError, ValidPath};
use crate::client::Client;
use crate::config::{Config, NarSource, Verify};
use crate::metrics::Metrics;

/// The NARs of one store.
#[derive(Debug)]
pub(super) struct Nars {
    pool: Arc<Pool>,
    infos: Arc<InfoCache>,
    proven: Arc<Proven>,
    held_back: Arc<HeldBack>,
    /// Nothing if they are not to be read.
    files: Option<Arc<NarFiles>>,
    verify: Verify,
    proving: Arc<Flights<HashPart, Result<(), StoreError>>>,
}

impl Nars {
    /// As `config` says.
    pub(super) fn new(
        config: &Config,
        directory: &Path,
        pool: Arc<Pool>,
        infos: Arc<InfoCache>,
        held_back: Arc<HeldBack>,
        metrics: &Metrics,
    ) -> Self {
        let files = (config.nar_source == NarSource::Store).then(|| Arc::new(NarFiles::new(directory, metrics)));
        let asks_for_proofs = files.is_some() || config.verify == Verify::First;
        let proven = Arc::new(if asks_for_proofs { Proven::new(directory) } else { Proven::nothing() });
        Self { pool, infos, proven, held_back, files, verify: config.verify, proving: Flights::new() }
    }

    /// All of it, hashed or not as the configuration says.
    pub(super) async fn whole(&self, valid: &ValidPath, client: Client) -> Result<Nar, StoreError> {
        self.open(valid, Some(self.verify), client).await
    }

    /// All of it, hashed.
    pub(super) async fn hashed(&self, valid: &ValidPath, client: Client) -> Result<Nar, StoreError> {
        self.open(valid, Some(Verify::Always), client).await
    }

    /// For its index, which takes no more than one proof.
    pub(super) async fn to_index(&self, valid: &ValidPath, client: Client) -> Result<Nar, StoreError> {
        self.open(valid, Some(Verify::First), client).await
    }

    /// So many bytes from `first` on, if they can be had without reading others.
    pub(super) async fn part_at_hand(&self, valid: &ValidPath, first: u64, length: u64, client: Client) -> Option<Nar> {
        let files = self.files.as_ref()?;
        let claim = Claim::of(valid);
        let is_end = reaches_end(valid, first, length);
        let seen = self.proven.look(&claim.path).filter(|seen| !is_end || self.proven.may_hold(&claim, *seen))?;
        // Why not is told by the other ways to have them.
        let mut stream = files.open(&claim, Some(seen), first..first + length, client).await.ok()??;
        if is_end && !self.proven.holds(&claim, seen, stream.modified()) {
            return None;
        }
        stream.hold_to(seen);
        Some(Nar::part(Source::Files(stream), self.terms(claim, Some(seen), true), first, length))
    }

    /// The same, when as much has been proven as has to be; or all of it, if there are only dumps.
    pub(super) async fn part(
        &self,
        valid: &ValidPath,
        first: u64,
        length: u64,
        client: Client,
    ) -> Result<Nar, StoreError> {
        let is_end = reaches_end(valid, first, length);
        if let Some(files) = self.files.as_ref().filter(|_| is_end) {
            self.prove(files, valid).await?;
        }
        match self.part_at_hand(valid, first, length, client).await {
            Some(part) => Ok(part),
            None => self.open(valid, is_end.then_some(self.verify), client).await,
        }
    }

    /// All of it, hashed as `verify` says, or not at all.
    async fn open(&self, valid: &ValidPath, verify: Option<Verify>, client: Client) -> Result<Nar, StoreError> {
        let claim = Claim::of(valid);
        let seen = self.proven.look(&claim.path);
        let source = self.source(&claim, seen, client).await;
        let mut source = source.inspect_err(|error| {
            self.infos.doubt(claim.path.hash_part(), error);
            self.held_back.consider(&claim, error);
        })?;
        let mut is_proven = verify.is_none();
        if let (Source::Files(files), Some(seen)) = (&mut source, seen) {
            is_proven |= verify == Some(Verify::First) && self.proven.holds(&claim, seen, files.modified());
            if is_proven {
                files.hold_to(seen);
            }
        }
        Ok(Nar::new(source, self.terms(claim, seen, is_proven)))
    }

    async fn source(&self, claim: &Claim, seen: Option<Sighting>, client: Client) -> Result<Source, StoreError> {
        if let Some(files) = &self.files {
            if let Some(stream) = files.open(claim, seen, 0..claim.nar_size, client).await? {
                return Ok(Source::Files(stream));
            }
        }
        self.pool.nar(client, &claim.path, claim.nar_size).await.map(|stream| Source::Daemon(Box::new(stream)))
    }

    fn terms(&self, claim: Claim, seen: Option<Sighting>, is_proven: bool) -> Terms {
        let (infos, proven, held_back) =
            (Arc::clone(&self.infos), Arc::clone(&self.proven), Arc::clone(&self.held_back));
        Terms { claim, infos, proven, held_back, seen, is_proven }
    }

    /// Reads and hashes all files of a path, unless that has been done or they cannot be read. It goes on for as long as
    /// anybody waits.
    async fn prove(&self, files: &Arc<NarFiles>, valid: &ValidPath) -> Result<(), StoreError> {
        let claim = Claim::of(valid);
        let seen = self.proven.look(&claim.path);
        if seen.is_none_or(|seen| self.proven.may_hold(&claim, seen)) {
            return Ok(());
        }
        let hash = claim.path.hash_part();
        let (ticket, flight) = self.proving.board(hash, Client::Server);
        if let Some(flight) = flight {
            let (files, terms) = (Arc::clone(files), self.terms(claim.clone(), seen, false));
            tokio::spawn(flight.fly(async move {
                let stream = files.open(&claim, seen, 0..claim.nar_size, Client::Server).await;
                if let Some(stream) = stream.inspect_err(|error| terms.held_back.consider(&claim, error))? {
                    let mut nar = Nar::new(Source::Files(stream), terms);
                    while nar.chunk().await?.is_some() {}
                }
                Ok(())
            }));
        }
        ticket.arrival().await.unwrap_or(Err(StoreError::GivenUp(hash)))
    }
}

/// Whether so many bytes from `first` on are all that there are from there.
fn reaches_end(valid: &ValidPath, first: u64, length: u64) -> bool {
    first + length == valid.info.nar_size
}
