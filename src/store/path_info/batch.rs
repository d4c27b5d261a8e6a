//! Questions about many paths at once: they go out on one connection together, so that a level of a closure takes one
//! round trip.
//!
//! Owns such a batch and its size. It takes a connection only while another one stays free, so that it never stands in the
//! way of a request.

use std::collections::HashMap;
use std::time::Duration;

use harmonia_protocol::operation::QueryPathInfo;
use harmonia_protocol::{HashPart, StorePath};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::entry::{Answer, Freshness};
use crate::store::path_info::single_flight::Leader;

/// Number of times that a free connection is looked for.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// An answer to one question of a batch.
pub(crate) struct BatchReply {
    hash: HashPart,
    pub(crate) answer: Answer,
    /// Whether nothing was known of the path before.
    pub(crate) is_new: bool,
}

impl PathInfoCache {
    /// Looks up [`BATCH`] paths at the most, whose answers come in their order. Those that are not known are asked about
    /// together if there is a connection to spare, and else one after the other by the client's turns. Dropping the future
    /// may close a connection to the daemon.
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
                Err(error) => tracing::debug!("not asking about many paths at once: {error}"),
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

    /// Asks about those that nobody is asking about, over a free connection that is looked for `attempts` times. There is
    /// no answer about a path of which the daemon returned an error: whoever wants it asks again, and gets an error of his
    /// own.
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
