//! Report on one path: shown on the page about it, and printed by `harmonia status PATH`.
//!
//! An operator sees every valid path; clients only paths that are served, and of a closure only its paths that are.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use serde::{Deserialize, Serialize};

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::{NotFound, Reason};
use crate::http::request::context::RequestCx;
use crate::signing::{SignatureReport, Trust};
use crate::store::{Closure, ClosureLimits, ClosureMember, PathStatus, ValidPath};

/// Limits of a closure on a page. That of a large system has five thousand paths; walking through this many takes two
/// megabytes.
pub(crate) const CLOSURE_LIMITS: ClosureLimits =
    ClosureLimits { paths: 20_000, time: Some(Duration::from_millis(500)) };
/// Number of paths of a closure that are listed by name.
const LARGEST: usize = 12;

/// Report on a valid path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathReport {
    /// The path, with the store directory.
    pub(crate) path: String,
    /// Length of its NAR in bytes.
    pub(crate) nar_size: u64,
    /// Hash of its NAR, in the format of a narinfo.
    pub(crate) nar_hash: String,
    /// The derivation that built it, with the store directory, if known.
    pub(crate) deriver: Option<String>,
    /// Base names of its references, ascending.
    pub(crate) references: Vec<String>,
    /// Time of its registration in the store, in seconds since 1970, if known.
    pub(crate) registration_time: Option<u64>,
    /// Whether it was built in this store.
    pub(crate) ultimate: bool,
    /// Its content address, if it has one.
    pub(crate) content_address: Option<String>,
    /// Its signatures, those of this cache first.
    pub(crate) signatures: Vec<SignatureReport>,
    /// Whether and why it is trusted.
    pub(crate) trust: Trust,
    /// The reason why clients get a 404; `None` if it is served.
    pub(crate) not_served: Option<NotServed>,
    /// Its closure.
    pub(crate) closure: ClosureReport,
    /// Its compressed NAR, if that is cached.
    pub(crate) compressed: Option<CompressedReport>,
}

/// Reason why clients get a 404 although the path is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotServed {
    /// Its name in metrics: `untrusted`, `quarantined` or `hidden`.
    pub(crate) reason: String,
    /// An explanation in one line.
    pub(crate) explanation: String,
}

impl From<NotFound> for NotServed {
    fn from(why: NotFound) -> Self {
        Self { reason: Reason::NotFound(why).label().to_owned(), explanation: why.explanation().to_owned() }
    }
}

/// A closure, or the part of it that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosureReport {
    /// Number of paths, a lower bound if incomplete.
    pub(crate) paths: usize,
    /// Total length of their NARs in bytes, a lower bound if incomplete.
    pub(crate) nar_size: u64,
    /// The reason why it is incomplete; `None` if it is complete.
    pub(crate) incomplete: Option<String>,
    /// The paths with the longest NARs, longest first.
    pub(crate) largest: Vec<PathSize>,
}

/// A path and the size of its NAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathSize {
    /// Base name of the path.
    pub(crate) name: String,
    /// The length of its NAR in bytes.
    pub(crate) nar_size: u64,
}

/// A compressed NAR in the NAR cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompressedReport {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Name of the encoding.
    pub(crate) encoding: String,
}

impl From<Closure> for ClosureReport {
    fn from(closure: Closure) -> Self {
        let of =
            |member: &ClosureMember| PathSize { name: member.path.base_name().to_owned(), nar_size: member.nar_size };
        Self {
            paths: closure.members.len(),
            nar_size: closure.nar_size(),
            largest: closure.largest(LARGEST).into_iter().map(of).collect(),
            incomplete: closure.incomplete.map(|why| why.to_string()),
        }
    }
}

impl App {
    /// Returns the report on the valid path with this hash part, even if it is hidden from clients; `None` if nix-daemon says
    /// that there is none. Dropping the future may close a connection to nix-daemon.
    pub(crate) async fn path_report(
        &self,
        hash: HashPart,
        limits: ClosureLimits,
        client: ClientId,
    ) -> Result<Option<PathReport>, HandlerError> {
        let (valid, not_served) = match self.store.path_status(hash, client).await? {
            PathStatus::NotValid | PathStatus::Hidden(None) => return Ok(None),
            PathStatus::Hidden(Some(valid)) => (valid, Some(NotFound::Hidden)),
            PathStatus::Quarantined(valid) => (valid, Some(NotFound::Quarantined)),
            PathStatus::Valid(valid) if self.serves(&valid, client).await? => (valid, None),
            PathStatus::Valid(valid) => (valid, Some(NotFound::Untrusted)),
        };
        let closure = self.store.closure(&[Arc::clone(&valid)], limits, |_| true, client).await;
        self.report(&valid, not_served, closure, client).await.map(Some)
    }

    /// Returns the report on a path that is served, for clients.
    pub(crate) async fn public_path_report(
        &self,
        valid: &Arc<ValidPath>,
        cx: RequestCx<'_>,
    ) -> Result<PathReport, HandlerError> {
        let sight = self.sight(cx).await?;
        let visible = |valid: &ValidPath| sight.sees(valid.path.hash_part()) && self.is_public(valid);
        let closure = self.store.closure(&[Arc::clone(valid)], CLOSURE_LIMITS, visible, cx.client).await;
        self.report(valid, None, closure, cx.client).await
    }

    async fn report(
        &self,
        valid: &Arc<ValidPath>,
        not_served: Option<NotFound>,
        closure: Closure,
        client: ClientId,
    ) -> Result<PathReport, HandlerError> {
        let signer = Arc::clone(&self.signer.load());
        let is_trusted = self.trusts(&signer, valid, client).await?;
        let (path, info, store) = (&valid.path, valid.info.to_path_info(), self.store.directory());
        let cache = self.nar_cache_for(valid);
        let file = cache.and_then(|cache| Some((cache.file_info(&info.nar_hash)?, cache.tag())));
        Ok(PathReport {
            path: store.full_path(path),
            nar_size: info.nar_size,
            nar_hash: format!("sha256:{}", info.nar_hash.to_nix32()),
            deriver: info.deriver.as_ref().map(|deriver| store.full_path(deriver)),
            references: info.references.iter().map(|reference| reference.base_name().to_owned()).collect(),
            registration_time: Some(info.registration_time).filter(|time| *time > 0),
            ultimate: info.ultimate,
            content_address: info.content_address.as_ref().map(ToString::to_string),
            signatures: signer.signature_reports(is_trusted, path, &info, store),
            trust: signer.trust_reason(is_trusted, path, &info, store),
            not_served: not_served.map(NotServed::from),
            closure: closure.into(),
            compressed: file.map(|(file, tag)| CompressedReport { size: file.size, encoding: tag.to_string() }),
        })
    }
}
