//! Decides which valid paths are served, and which of them are signed.
//!
//! Decides once for each path: verifying a signature takes 50 microseconds, and comparing contents with a content address
//! takes reading them. The verdict is stored with the path info and belongs to one [`Signer`]; it is dropped with either.
//! Leaves the rules to [`Signer`].

use std::sync::Arc;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::signing::Signer;
use crate::store::{PathStatus, StoreError, ValidPath};

impl App {
    /// Returns the path with this hash part, if it is served. The error says why not, which is for the operator: to a client
    /// a path that is hidden, or in none of the client's views, must look like one that is not there.
    pub(crate) async fn valid_path(&self, hash: HashPart, cx: RequestCx<'_>) -> Result<Arc<ValidPath>, HandlerError> {
        if !self.sees(hash, cx).await? {
            return Err(NotFound::OutsideView.into());
        }
        let status = self.store.path_status(hash, cx.client).await?;
        self.served(status, cx.client).await
    }

    /// Returns the path with this hash part as [`Self::valid_path`] does, for the server itself, which sees all.
    pub(crate) async fn any_valid_path(&self, hash: HashPart) -> Result<Arc<ValidPath>, HandlerError> {
        let status = self.store.path_status(hash, ClientId::Server).await?;
        self.served(status, ClientId::Server).await
    }

    /// Returns the path as [`Self::valid_path`] does, by a new query to nix-daemon.
    pub(crate) async fn revalidated_path(
        &self,
        hash: HashPart,
        cx: RequestCx<'_>,
    ) -> Result<Arc<ValidPath>, HandlerError> {
        if !self.sees(hash, cx).await? {
            return Err(NotFound::OutsideView.into());
        }
        let status = self.store.fresh_path_status(hash, cx.client).await?;
        self.served(status, cx.client).await
    }

    /// Returns a cached or indexed path whose NAR has this hash, if it is served.
    pub(crate) async fn path_with_nar(
        &self,
        nar_hash: &NarHash,
        cx: RequestCx<'_>,
    ) -> Result<Arc<ValidPath>, HandlerError> {
        let sight = self.sight(cx).await?;
        let wanted = |valid: &ValidPath| sight.sees(valid.path.hash_part()) && self.may_serve(valid);
        let valid = self.store.find_by_nar_hash(nar_hash, wanted, cx.client).await?;
        let valid = valid.ok_or(NotFound::NotValid)?;
        if self.serves(&valid, cx.client).await? { Ok(valid) } else { Err(NotFound::Untrusted.into()) }
    }

    /// Returns whether this path is served, as far as that is known without reading its contents. Only such a path is
    /// mentioned to clients that do not know its hash.
    pub(crate) fn is_public(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        let is_served = !signer.hides_untrusted() || self.known_trust(&signer, valid) == Some(true);
        is_served && !self.store.is_quarantined(valid) && self.store.is_known_not_hidden(valid)
    }

    async fn served(&self, status: PathStatus, client: ClientId) -> Result<Arc<ValidPath>, HandlerError> {
        if let (PathStatus::Valid(valid) | PathStatus::Quarantined(valid), true) = (&status, client != ClientId::Server)
        {
            valid.record_request();
        }
        match status {
            PathStatus::Valid(valid) if self.serves(&valid, client).await? => Ok(valid),
            PathStatus::Valid(_) => Err(NotFound::Untrusted.into()),
            PathStatus::Quarantined(_) => Err(NotFound::Quarantined.into()),
            PathStatus::Hidden(_) => Err(NotFound::Hidden.into()),
            PathStatus::NotValid => Err(NotFound::NotValid.into()),
        }
    }

    /// Returns whether this path is served.
    pub(crate) async fn serves(&self, valid: &Arc<ValidPath>, client: ClientId) -> Result<bool, StoreError> {
        let signer = self.signer.load();
        if !signer.hides_untrusted() {
            return Ok(true);
        }
        let signer = Arc::clone(&signer);
        let serves = self.trusts(&signer, valid, client).await?;
        if !serves {
            tracing::debug!(path = %valid.path, "not served: neither built here nor signed by a trusted key");
        }
        Ok(serves)
    }

    /// Returns false if this path is known not to be served, without reading its contents.
    pub(crate) fn may_serve(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        !signer.hides_untrusted() || self.known_trust(&signer, valid).unwrap_or(true)
    }

    /// Returns whether this path is served, signed or not, and its contents need not be read to know that.
    pub(crate) fn is_known_to_be_served(&self, valid: &ValidPath) -> bool {
        let signer = self.signer.load();
        self.known_trust(&signer, valid).is_some_and(|is_trusted| is_trusted || !signer.hides_untrusted())
    }

    /// Returns whether this signer trusts, and so signs, this path.
    pub(crate) async fn trusts(
        &self,
        signer: &Signer,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<bool, StoreError> {
        if let Some(verdict) = self.known_trust(signer, valid) {
            return Ok(verdict);
        }
        // Boxed: it holds a NAR, which would make the future of every narinfo larger.
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
