//! Gathers what belongs to a path: its narinfo with our signatures, and its NAR, listing and build log, which are put at once.
//!
//! `sign` decides which paths may be published. A NAR goes first: whatever happens afterwards, it is a file without a
//! narinfo, which the garbage collection removes, as it does listings. The NAR cache has verified it.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use tokio::sync::Semaphore;

use super::batch::Publication;
use super::cached_nars::CachedNar;
use super::obstacle::{Interruption, Obstacle, of_fill, of_store};
use super::presence::{Found, Stored};
use super::publisher::Publisher;
use super::put_nar::NarPut;
use crate::bucket::engine::BucketError;
use crate::bucket::narinfo::BucketNarInfo;
use crate::fairness::ClientId;
use crate::nar_cache::NarCache;
use crate::signing::Signer;
use crate::store::{PathStatus, Store, StoreError, ValidPath};

/// Upper bound of a listing and of a build log, in bytes. Larger ones are not published.
const MAX_EXTRA: usize = 8 << 20;
/// Paths whose listings and build logs are in memory at a time.
const EXTRAS: usize = 8;

/// Sources of what this host publishes.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) store: Arc<Store>,
    pub(super) nars: Arc<NarCache>,
    pub(super) signer: Arc<Signer>,
    /// Limits listings and build logs in memory.
    extras: Arc<Semaphore>,
}

/// A path that may be published.
pub(super) enum Gathered {
    /// Its NAR is in the bucket, and so many bytes were sent for it.
    Ready(Box<Publication>, u64),
    /// Its narinfo is in the bucket.
    Present(Box<Stored>),
    /// The bucket has another build of it.
    Irreproducible(Box<Stored>),
}

impl Origin {
    /// Creates an origin.
    pub(super) fn new(store: &Arc<Store>, nars: &Arc<NarCache>, signer: Arc<Signer>) -> Self {
        let extras = Arc::new(Semaphore::new(EXTRAS));
        Self { store: Arc::clone(store), nars: Arc::clone(nars), signer, extras }
    }

    /// Looks up a path that may be published.
    pub(super) async fn find(&self, path: HashPart) -> Result<Result<Arc<ValidPath>, Obstacle>, Interruption> {
        Ok(match self.store.path_status(path, ClientId::Server).await {
            Ok(PathStatus::Valid(valid)) => Ok(valid),
            Ok(PathStatus::Quarantined(_)) => Err(Obstacle::Quarantined),
            Ok(PathStatus::Hidden(_)) => Err(Obstacle::Hidden),
            Ok(PathStatus::NotValid) => Err(Obstacle::NotValid),
            Err(error) => Err(of_store(error)?),
        })
    }

    /// Gathers a path, and puts its NAR, listing and build log. `may_be_there` says whether the bucket may have its narinfo, and
    /// `keeps_extras` whether listing and log have to be put again, as a garbage collection may delete the former.
    pub(super) async fn gather(
        &self,
        valid: &Arc<ValidPath>,
        publisher: &Publisher,
        (may_be_there, keeps_extras): (bool, bool),
    ) -> Result<Result<Gathered, Obstacle>, Interruption> {
        let info = valid.info.to_path_info();
        let own = self.signer.sign_path(&valid.path, &info, self.store.directory());
        let mut replaced = None;
        if may_be_there {
            let presence = publisher.presence();
            let is_trusted = |signatures| presence.trusts_signatures(&valid.path, &info, signatures);
            let is_ours_trusted = || is_trusted(&own) || is_trusted(&info.signatures);
            match presence.find(valid.path.hash_part(), valid.info.nar_hash, is_ours_trusted).await? {
                Found::Same(stored) => return Ok(Ok(Gathered::Present(stored))),
                Found::Other(stored) => return Ok(Ok(Gathered::Irreproducible(stored))),
                Found::Untrusted(stored) => replaced = Some(stored.narinfo),
                Found::Absent => {}
            }
        }
        // Hidden or gone since the closure was found.
        if let Err(obstacle) = self.find(valid.path.hash_part()).await? {
            return Ok(Err(obstacle));
        }
        match self.trusts(valid).await {
            Ok(true) => {}
            Ok(false) => return Ok(Err(Obstacle::Untrusted)),
            Err(error) => return Ok(Err(of_store(error)?)),
        }
        if !self.nars.fits(valid.info.nar_size) {
            return Ok(Err(Obstacle::TooLarge));
        }
        if own.is_empty() && info.signatures.is_empty() {
            return Ok(Err(Obstacle::Unsigned));
        }
        let nar = CachedNar::new(&self.nars, valid);
        let file = match nar.fill().await {
            Ok(file) => file,
            Err(error) => return Ok(Err(of_fill(error)?)),
        };
        let mut narinfo = match BucketNarInfo::new(&valid.path, &info, self.store.directory(), file, own) {
            Ok(narinfo) => narinfo,
            Err(error) => return Ok(Err(Obstacle::Unreadable(error.to_string()))),
        };
        if let Some(replaced) = replaced {
            narinfo.add_signatures(&replaced, self.store.directory());
        }
        let sent = match publisher.put_nar(&nar, narinfo.file(), file.size).await? {
            NarPut::Sent(bytes) => bytes,
            NarPut::Existed => 0,
            NarPut::Unavailable(reason) => return Ok(Err(Obstacle::Unreadable(reason))),
        };
        let publication = match self.with_extras(valid, narinfo, publisher, keeps_extras).await? {
            Ok(publication) => publication,
            Err(error) => return Ok(Err(of_store(error)?)),
        };
        Ok(Ok(Gathered::Ready(Box::new(publication), sent)))
    }

    /// Reads listing and build log, and puts them unless they are kept.
    async fn with_extras(
        &self,
        valid: &Arc<ValidPath>,
        narinfo: BucketNarInfo,
        publisher: &Publisher,
        keeps_extras: bool,
    ) -> Result<Result<Publication, StoreError>, BucketError> {
        let _permit = self.extras.acquire().await;
        let listing = match self.store.listing(valid, MAX_EXTRA, ClientId::Server).await {
            Ok(listing) => listing.map(Bytes::from),
            Err(error) => return Ok(Err(error)),
        };
        let log = match valid.info.to_path_info().deriver {
            Some(derivation) => self.build_log(derivation).await,
            None => None,
        };
        let mut publication = Publication { narinfo, listing, log };
        if !keeps_extras {
            publisher.put_extras(vec![&publication]).await?;
            (publication.listing, publication.log) = (None, None);
        }
        Ok(Ok(publication))
    }

    /// Returns whether the signer trusts a path, and keeps that with its path info.
    async fn trusts(&self, valid: &Arc<ValidPath>) -> Result<bool, StoreError> {
        let (signer, directory): (_, &StoreDir) = (&self.signer, self.store.directory());
        if signer.trusts_all_paths() {
            return Ok(true);
        }
        if let Some(verdict) = valid.verdict.get(signer.id()) {
            return Ok(verdict);
        }
        let verdict = match signer.is_trusted(&valid.path, &valid.info.to_path_info(), directory) {
            Some(verdict) => verdict,
            None => self.store.matches_content_address(valid, ClientId::Server).await?,
        };
        valid.verdict.set(signer.id(), verdict);
        Ok(verdict)
    }

    /// Reads the build log of a derivation, if this host has it.
    async fn build_log(&self, derivation: StorePath) -> Option<(StorePath, Bytes)> {
        let found = self.store.build_log(derivation.hash_part(), ClientId::Server).await;
        let log =
            found.inspect_err(|error| tracing::debug!("not publishing the log of {derivation}: {error}")).ok()??;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            let mut decoder = log.form.decoder(log.file.into_file())?;
            decoder.by_ref().take(MAX_EXTRA as u64 + 1).read_to_end(&mut text)?;
            std::io::Result::Ok(text)
        });
        let text = read.await.ok()?.ok()?;
        (text.len() <= MAX_EXTRA).then(|| (derivation, text.into()))
    }
}
