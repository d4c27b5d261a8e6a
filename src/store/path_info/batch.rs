//! Queries of many paths in one pipeline, so that a level of a closure takes one round trip.
//!
//! A batch uses a connection only while another one stays free, so that it never delays a request.

use std::collections::HashMap;
use std::time::Duration;

use harmonia_protocol::operation::QueryPathInfo;
use harmonia_protocol::{HashPart, StorePath};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::entry::{Freshness, LookupResult};
use crate::store::path_info::single_flight::Leader;

/// Pause between attempts to get a connection.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Reply to one query of a batch.
pub(crate) struct BatchReply {
    hash: HashPart,
    pub(crate) result: LookupResult,
    /// Whether the path was not cached before.
    pub(crate) is_new: bool,
}

impl PathInfoCache {
    /// Looks up at most 64 paths and returns the results in their order. Paths without a fresh entry are queried
    /// together if a connection is idle, else one after the other. Dropping the future may close a connection to
    /// nix-daemon.
    pub(crate) async fn valid_paths(
        self: &std::sync::Arc<Self>,
        paths: &[StorePath],
        client: ClientId,
    ) -> Vec<LookupResult> {
        let mut results: HashMap<HashPart, LookupResult> = HashMap::new();
        let mut missing = Vec::new();
        for path in paths {
            let entry = self.entries().find(&path.hash_part()).cloned();
            match entry.filter(|entry| matches!(self.freshness(entry), Freshness::Fresh)) {
                Some(entry) => drop(results.insert(path.hash_part(), Ok(Some(entry.valid)))),
                None => missing.push(path.clone()),
            }
        }
        if missing.len() > 1 {
            match self.query_batch(missing, 1).await {
                Ok(replies) => results.extend(replies.into_iter().map(|reply| (reply.hash, reply.result))),
                Err(error) => tracing::debug!("cannot query the paths in one batch: {error}"),
            }
        }
        let mut in_order = Vec::with_capacity(paths.len());
        for path in paths {
            in_order.push(match results.remove(&path.hash_part()) {
                Some(result) => result,
                None => self.valid_path(path.hash_part(), client).await,
            });
        }
        in_order
    }

    /// Queries those paths that are not being queried already, trying `attempts` times to get an idle connection.
    ///
    /// The result has no reply for paths that are being queried, or that nix-daemon returned an error for: callers that
    /// need them query them again.
    pub(crate) async fn query_batch(
        &self,
        paths: Vec<StorePath>,
        attempts: usize,
    ) -> Result<Vec<BatchReply>, StoreError> {
        let mut connection = self.pool.acquire_idle(attempts, BUSY_PAUSE).await?;
        let lead = |path: StorePath| Some((self.single_flight.join(path.hash_part(), ClientId::Server).1?, path));
        let (leaders, paths): (Vec<Leader<HashPart, LookupResult>>, Vec<StorePath>) =
            paths.into_iter().filter_map(lead).unzip();
        let observations = self.observe(paths.clone()).await;
        let queries: Vec<_> = paths.iter().map(QueryPathInfo).collect();
        let replies = self.pool.call_all(&mut connection, &queries).await?;
        drop(connection);
        let mut completed = Vec::new();
        for (((leader, path), observation), reply) in leaders.into_iter().zip(paths).zip(observations).zip(replies) {
            let Ok(info) = reply else { continue };
            let hash = path.hash_part();
            let is_new = self.entries().peek(&hash).is_none();
            let result = self.insert(path, info, Some(observation));
            leader.complete(result.clone());
            completed.push(BatchReply { hash, result, is_new });
        }
        Ok(completed)
    }
}
