//! Everything that is known of one path, for people and scripts: the page of a path shows it, and `harmonia status`
//! prints it.
//!
//! Owns what is told, and to whom: an operator sees every valid path, a visitor only what is given out, and of a closure
//! only what could be fetched one by one.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::HandlerError;
use super::reason::{NotFound, Reason};
use crate::fairness::ClientId;
use crate::signing::{SignatureReport, Trust};
use crate::store::{Closure, ClosureLimits, ClosureMember, PathStatus, ValidPath};

/// The closure of a large system has five thousand paths; of this many it takes two megabytes to walk through.
pub const CLOSURE_LIMITS: ClosureLimits = ClosureLimits { paths: 20_000, time: Some(Duration::from_millis(500)) };
/// Parts of a closure that are told of by name.
const LARGEST: usize = 12;

/// A valid path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// With the store directory.
    pub path: String,
    /// The length of its NAR in bytes.
    pub nar_size: u64,
    /// The hash of its NAR, as a narinfo has it.
    pub nar_hash: String,
    /// The derivation that it was built from, with the store directory, if known.
    pub deriver: Option<String>,
    /// Base names of what it refers to, ascending.
    pub references: Vec<String>,
    /// The time at which it came into the store, in seconds since 1970, if known.
    pub registration_time: Option<u64>,
    /// Whether the daemon built it itself.
    pub ultimate: bool,
    /// The content address, if it has one.
    pub content_address: Option<String>,
    /// Signatures by key, ours first.
    pub signatures: Vec<SignatureReport>,
    /// The reason to trust it, if there is one.
    pub trust: Trust,
    /// The reason why clients get a 404; nothing if it is given out.
    pub not_given_out: Option<NotGivenOut>,
    /// The closure: all that it needs to run.
    pub closure: ClosureReport,
    /// Its compressed NAR, if one is kept.
    pub compressed: Option<CompressedReport>,
}

/// A reason why clients are answered 404, though the path is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotGivenOut {
    /// Its name in metrics: `untrusted` or `quarantined`.
    pub reason: String,
    /// A line for people.
    pub explanation: String,
}

impl From<NotFound> for NotGivenOut {
    fn from(why: NotFound) -> Self {
        Self { reason: Reason::NotFound(why).label().to_owned(), explanation: why.explanation().to_owned() }
    }
}

/// A closure, or as much of it as was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureReport {
    /// Paths, at least.
    pub paths: usize,
    /// The lengths of their NARs together in bytes, at least.
    pub nar_size: u64,
    /// The reason why there may be more; nothing if this is all.
    pub incomplete: Option<String>,
    /// The paths with the longest NARs, longest first.
    pub largest: Vec<PathSize>,
}

/// A path with the size of its NAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSize {
    /// The base name.
    pub name: String,
    /// The length of its NAR in bytes.
    pub nar_size: u64,
}

/// A compressed NAR on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedReport {
    /// Bytes.
    pub size: u64,
    /// The name of the encoding.
    pub encoding: String,
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
    /// Everything about the valid path with this hash part, for the operator, who may also know of what is not given out.
    /// `None` if the daemon says that there is none. Dropping the future may close a connection to the daemon.
    pub async fn path_report(
        &self,
        hash: HashPart,
        limits: ClosureLimits,
        client: ClientId,
    ) -> Result<Option<PathReport>, HandlerError> {
        let (valid, not_given_out) = match self.store.path_status(hash, client).await? {
            PathStatus::NotValid => return Ok(None),
            PathStatus::Quarantined(valid) => (valid, Some(NotFound::Quarantined)),
            PathStatus::Valid(valid) if self.serves(&valid, client).await? => (valid, None),
            PathStatus::Valid(valid) => (valid, Some(NotFound::Untrusted)),
        };
        let closure = self.store.closure(&[Arc::clone(&valid)], limits, |_| true, client).await;
        self.report(&valid, not_given_out, closure, client).await.map(Some)
    }

    /// Everything about a path that is given out, for anybody.
    pub(super) async fn public_path_report(
        &self,
        valid: &Arc<ValidPath>,
        client: ClientId,
    ) -> Result<PathReport, HandlerError> {
        let visible = |valid: &ValidPath| self.is_public(valid);
        let closure = self.store.closure(&[Arc::clone(valid)], CLOSURE_LIMITS, visible, client).await;
        self.report(valid, None, closure, client).await
    }

    async fn report(
        &self,
        valid: &Arc<ValidPath>,
        not_given_out: Option<NotFound>,
        closure: Closure,
        client: ClientId,
    ) -> Result<PathReport, HandlerError> {
        let signer = Arc::clone(&self.signer.load());
        let is_trusted = self.trusts(&signer, valid, client).await?;
        let (path, info, store) = (&valid.path, valid.info.to_path_info(), self.store.directory());
        let nars = self.compressed_nars(valid);
        let file = nars.and_then(|nars| Some((nars.file_info(&info.nar_hash)?, nars.tag())));
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
            not_given_out: not_given_out.map(NotGivenOut::from),
            closure: closure.into(),
            compressed: file.map(|(file, tag)| CompressedReport { size: file.size, encoding: tag.to_string() }),
        })
    }
}
