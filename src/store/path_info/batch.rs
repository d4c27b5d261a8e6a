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
use crate::store::path_info::entry::{Answer, Freshness};
use crate::store::path_info::single_flight::Leader;

/// Pause between attempts to get a connection.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Reply to one query of a batch.
pub(crate) struct BatchReply {
    hash: HashPart,
    pub(crate) answer: Answer,
    /// Whether the path was not cached before.
    pub(crate) is_new: bool,
}

impl PathInfoCache {
    /// Looks up at most [`BATCH`] paths. Results are in their order. Paths that are not cached are queried together if
    /// a connection is to spare, and else one after the other as the client's own queries. Dropping the future may
    /// close a connection to nix-daemon.
    pub(crate) async fn valid_paths(self: &std::sync::Arc<Self>, paths: &[StorePath], client: ClientId) -> Vec<Answer> {
        let mut answers: HashMap<HashPart, Answer> = HashMap::new();
        let mut unknown = Vec::new();
        for path in paths {
            let known = self.entries().find(&path.hash_part()).cloned();
            match known.filter(|known| matches!(self.freshness(known), Freshness::Fresh)) {
                Some(known) => drop(answers.insert(path.hash_part(), Ok(Some(known.valid)))),
                None => unknown.push(path.clone()),
            }
        }
        if unknown.len() > 1 {
            match self.query_batch(unknown, 1).await {
                Ok(asked) => answers.extend(asked.into_iter().map(|asked| (asked.hash, asked.answer))),
                Err(error) => tracing::debug!("cannot query the paths in one batch: {error}"),
            }
        }
        let mut in_order = Vec::with_capacity(paths.len());
        for path in paths {
            in_order.push(match answers.remove(&path.hash_part()) {
                Some(answer) => answer,
                None => self.valid_path(path.hash_part(), client).await,
            });
        }
        in_order
    }

    /// Queries those paths that are not being queried already. Tries `attempts` times to get a connection. Omits paths
    /// for which nix-daemon returned an error: those who need them query again and get their own error.
    pub(crate) async fn query_batch(
        &self,
        paths: Vec<StorePath>,
        attempts: usize,
    ) -> Result<Vec<BatchReply>, StoreError> {
        let mut loan = self.pool.acquire_idle(attempts, BUSY_PAUSE).await?;
        let board = |path: StorePath| Some((self.single_flight.join(path.hash_part(), ClientId::Server).1?, path));
        let (single_flight, paths): (Vec<Leader<HashPart, Answer>>, Vec<StorePath>) =
            paths.into_iter().filter_map(board).unzip();
        let observation = self.observe(paths.clone()).await;
        let questions: Vec<_> = paths.iter().map(QueryPathInfo).collect();
        let replies = self.pool.call_all(&mut loan, &questions).await?;
        drop(loan);
        let mut asked = Vec::new();
        for (((leader, path), seen), reply) in single_flight.into_iter().zip(paths).zip(observation).zip(replies) {
            let Ok(info) = reply else { continue };
            let hash = path.hash_part();
            let is_new = self.entries().peek(&hash).is_none();
            let answer = self.insert(path, info, Some(seen));
            leader.complete(answer.clone());
            asked.push(BatchReply { hash, answer, is_new });
        }
        Ok(asked)
    }
}
