//! Lookup of a path by an operator (`harmonia status PATH`), by store path, hash or URL.

use std::time::Duration;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;

use crate::fairness::ClientId;
use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::path_report::PathReport;
use crate::http::request::lookup_query::LookupQuery;
use crate::store::ClosureLimits;

/// Limits that suffice for the closure of a whole system, which an operator waits for.
const CLOSURE_LIMITS: ClosureLimits = ClosureLimits { paths: 100_000, time: Some(Duration::from_secs(20)) };

/// Result of a lookup.
#[derive(Debug, Clone)]
pub(crate) enum LookedUp {
    /// The path is valid.
    Valid {
        /// Its hash part.
        hash: HashPart,
        /// Everything about it.
        report: Box<PathReport>,
        /// Time of the last request of a client for it, in seconds since 1970; `None` if its path info was not cached.
        last_requested: Option<u64>,
    },
    /// nix-daemon says that no path with this hash part is valid.
    NotValid(HashPart),
    /// No cached or indexed path has this NAR; nix-daemon cannot look one up by the hash of its NAR.
    NoSuchNar(NarHash),
    /// The path is in another store directory.
    OtherStore,
    /// The text names no path.
    Unrecognized,
}

impl App {
    /// Returns the hash part that a text names: a store path, a file in it, its base name or hash part, or a URL with one.
    pub(crate) fn hash_part_of(&self, text: &str) -> Option<HashPart> {
        match LookupQuery::parse(text, self.store.directory()) {
            LookupQuery::Path(hash, _) => Some(hash),
            _ => None,
        }
    }

    /// Looks up the path that a text names: a store path, a file in it, its base name or hash part, the hash of its NAR, or a
    /// URL with one of these. For operators only, since it finds paths that are not served. Does not count as a request
    /// for the path.
    pub(crate) async fn look_up(&self, text: &str) -> Result<LookedUp, HandlerError> {
        let hash = match LookupQuery::parse(text, self.store.directory()) {
            LookupQuery::Path(hash, _) => hash,
            LookupQuery::Nar(nar_hash) => {
                match self.store.find_by_nar_hash(&nar_hash, |_| true, ClientId::Server).await? {
                    Some(valid) => valid.path.hash_part(),
                    None => return Ok(LookedUp::NoSuchNar(nar_hash)),
                }
            }
            LookupQuery::OtherStore => return Ok(LookedUp::OtherStore),
            LookupQuery::Empty | LookupQuery::Unrecognized => return Ok(LookedUp::Unrecognized),
        };
        let last_requested = self.store.cached_path(hash).and_then(|valid| valid.last_requested());
        let report = self.path_report(hash, CLOSURE_LIMITS, ClientId::Server).await?;
        Ok(report.map_or(LookedUp::NotValid(hash), |report| LookedUp::Valid {
            hash,
            report: Box::new(report),
            last_requested,
        }))
    }
}
