//! Which paths are given out, and which of them are signed.
//!
//! Owns that each path is decided about once: verifying a signature takes 50 microseconds, comparing contents with a
//! content address takes reading them. The verdict lies beside the path info and is of one [`Signer`], so it falls with
//! either. Leaves the rules to [`Signer`].

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

use super::App;
use super::error::HandlerError;
use super::reason::NotFound;
use crate::fairness::ClientId;
use crate::signing::Signer;
use crate::store::{PathStatus, StoreError, ValidPath};

impl App {
    /// The path that has this hash part and is given out. The error says why there is none, which is for the operator:
    /// one that is kept back looks like one that is not there.
    pub(super) async fn valid_path(&self, hash: HashPart, client: ClientId) -> Result<Arc<ValidPath>, HandlerError> {
        let status = self.store.path_status(hash, client).await?;
        self.given_out(status, client).await
    }

    /// Does as [`Self::valid_path`], by what the daemon says now.
    pub(super) async fn valid_path_anew(
        &self,
        hash: HashPart,
        client: ClientId,
    ) -> Result<Arc<ValidPath>, HandlerError> {
        let status = self.store.fresh_path_status(hash, client).await?;
        self.given_out(status, client).await
    }

    /// A path that is known, whose NAR has this hash, and that is given out.
    pub(super) async fn path_with_nar(
        &self,
        nar_hash: &NarHash,
        client: ClientId,
    ) -> Result<Arc<ValidPath>, HandlerError> {
        let valid = self.store.find_by_nar_hash(nar_hash, |valid| self.may_serve(valid), client).await?;
        let valid = valid.ok_or(NotFound::NotValid)?;
        if self.serves(&valid, client).await? { Ok(valid) } else { Err(NotFound::Untrusted.into()) }
    }

    /// Whether this path is known to be given out, without that contents have to be read first. Nobody else is told more of
    /// it than those who ask for it by its hash.
    pub(super) fn is_public(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        let is_served = !signer.hides_untrusted() || self.known_trust(&signer, valid) == Some(true);
        is_served && !self.store.is_quarantined(valid)
    }

    async fn given_out(&self, status: PathStatus, client: ClientId) -> Result<Arc<ValidPath>, HandlerError> {
        if let (PathStatus::Valid(valid) | PathStatus::Quarantined(valid), true) = (&status, client != ClientId::Server)
        {
            valid.record_request();
        }
        match status {
            PathStatus::Valid(valid) if self.serves(&valid, client).await? => Ok(valid),
            PathStatus::Valid(_) => Err(NotFound::Untrusted.into()),
            PathStatus::Quarantined(_) => Err(NotFound::Quarantined.into()),
            PathStatus::NotValid => Err(NotFound::NotValid.into()),
        }
    }

    /// Whether this path is given out.
    pub(super) async fn serves(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<bool, StoreError> {
        let signer = self.signer.load();
        if !signer.hides_untrusted() {
            return Ok(true);
        }
        let signer = Arc::clone(&signer);
        let serves = self.trusts(&signer, valid, client).await?;
        if !serves {
            tracing::debug!(path = %valid.path, "not served, since nobody who is trusted vouches for it");
        }
        Ok(serves)
    }

    /// The same as far as it is known without reading contents; yes where it is not.
    pub(super) fn may_serve(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        !signer.hides_untrusted() || self.known_trust(&signer, valid).unwrap_or(true)
    }

    /// Whether it is given out, signed or not, without that contents have to be read first.
    pub(super) fn is_served_at_once(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        self.known_trust(&signer, valid).is_some_and(|is_trusted| is_trusted || !signer.hides_untrusted())
    }

    /// Whether this signer trusts, and so signs, this path.
    pub(super) async fn trusts(
        &self,
        signer: &Signer,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<bool, StoreError> {
        if let Some(verdict) = self.known_trust(signer, valid) {
            return Ok(verdict);
        }
        // Boxed: it holds a NAR, and every narinfo's future would have room for it, which is moved with each request.
        let verdict = Box::pin(self.store.matches_content_address(valid, client)).await?;
        valid.verdict.set(signer.id(), verdict);
        Ok(verdict)
    }

    fn known_trust(&self, signer: &Signer, valid: &ValidPath) -> Option<bool> {
        if signer.trusts_all_paths() {
            return Some(true);
        }
        let known = valid.verdict.get(signer.id());
        known.or_else(|| {
            let verdict = signer.is_trusted(&valid.path, &valid.info.to_path_info(), self.store.directory())?;
            valid.verdict.set(signer.id(), verdict);
            Some(verdict)
        })
    }
}
