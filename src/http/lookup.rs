//! Paths as an operator names them, and everything that is known of them.

use std::time::Duration;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

use super::App;
use super::error::HandlerError;
use super::pasted::Wanted;
use super::path_report::PathReport;
use crate::fairness::ClientId;
use crate::store::ClosureLimits;

/// An operator waits for the closure of a whole system.
const CLOSURE_LIMITS: ClosureLimits = ClosureLimits { paths: 100_000, time: Some(Duration::from_secs(20)) };

/// The meaning of a text that was looked up.
#[derive(Debug, Clone)]
pub enum LookedUp {
    /// A valid path.
    Valid {
        /// The hash part of the path.
        hash: HashPart,
        /// The report on it.
        report: Box<PathReport>,
        /// The time of a client's last request for it, in seconds since 1970, as far as it is remembered.
        last_asked: Option<u64>,
    },
    /// The daemon says that no path with this hash part is valid.
    NotValid(HashPart),
    /// No path that is known has this NAR, and the daemon cannot be asked for one.
    NoSuchNar(NarHash),
    /// A path of another store directory.
    OtherStore,
    /// No path is named.
    Unclear,
}

impl App {
    /// Everything about the path that a text names: a store path, a place in it, its base name or hash part, the hash of its
    /// NAR, or a URL with one of these. For operators, who may know of what is not given out, too. Does not count as being
    /// asked for.
    pub async fn path_status(&self, text: &str) -> Result<LookedUp, HandlerError> {
        let hash = match Wanted::parse(text, self.store.directory()) {
            Wanted::Path(hash, _) => hash,
            Wanted::Nar(nar_hash) => match self.store.find_by_nar_hash(&nar_hash, |_| true, ClientId::Server).await? {
                Some(valid) => valid.path.hash_part(),
                None => return Ok(LookedUp::NoSuchNar(nar_hash)),
            },
            Wanted::OtherStore => return Ok(LookedUp::OtherStore),
            Wanted::Nothing | Wanted::Unclear => return Ok(LookedUp::Unclear),
        };
        let last_asked = self.store.cached_path(hash).and_then(|valid| valid.last_requested());
        let report = self.path_report(hash, CLOSURE_LIMITS, ClientId::Server).await?;
        Ok(report.map_or(LookedUp::NotValid(hash), |report| LookedUp::Valid {
            hash,
            report: Box::new(report),
            last_asked,
        }))
    }
}
