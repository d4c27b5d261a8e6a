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
use crate::store::path_info::cache::InfoCache;
use crate::store::path_info::entry::{Answer, Standing};
use crate::store::path_info::single_flight::Flight;

/// Number of times that a free connection is looked for.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// An answer to one question of a batch.
pub(crate) struct Asked {
    hash: HashPart,
    pub(crate) answer: Answer,
    /// Whether nothing was known of the path before.
    pub(crate) is_new: bool,
}

impl InfoCache {
    /// Looks up [`BATCH`] paths at the most, whose answers come in their order. Those that are not known are asked about
    /// together if there is a connection to spare, and else one after the other by the client's turns. Dropping the future
    /// may close a connection to the daemon.
    pub(crate) async fn valid_paths(self: &std::sync::Arc<Self>, paths: &[StorePath], client: ClientId) -> Vec<Answer> {
        let mut answers: HashMap<HashPart, Answer> = HashMap::new();
        let mut unknown = Vec::new();
        for path in paths {
            let known = self.known().find(&path.hash_part()).cloned();
            match known.filter(|known| matches!(self.standing(known), Standing::Fresh)) {
                Some(known) => drop(answers.insert(path.hash_part(), Ok(Some(known.valid)))),
                None => unknown.push(path.clone()),
            }
        }
        if unknown.len() > 1 {
            match self.ask_batch(unknown, 1).await {
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
    pub(crate) async fn ask_batch(&self, paths: Vec<StorePath>, attempts: usize) -> Result<Vec<Asked>, StoreError> {
        let mut loan = self.pool.spare(attempts, BUSY_PAUSE).await?;
        let board = |path: StorePath| Some((self.flights.board(path.hash_part(), ClientId::Server).1?, path));
        let (flights, paths): (Vec<Flight<HashPart, Answer>>, Vec<StorePath>) =
            paths.into_iter().filter_map(board).unzip();
        let circumstances = self.circumstances(paths.clone()).await;
        let questions: Vec<_> = paths.iter().map(QueryPathInfo).collect();
        let replies = self.pool.call_all(&mut loan, &questions).await?;
        drop(loan);
        let mut asked = Vec::new();
        for (((flight, path), seen), reply) in flights.into_iter().zip(paths).zip(circumstances).zip(replies) {
            let Ok(info) = reply else { continue };
            let hash = path.hash_part();
            let is_new = self.known().peek(&hash).is_none();
            let answer = self.learn(path, info, Some(seen));
            flight.land(answer.clone());
            asked.push(Asked { hash, answer, is_new });
        }
        Ok(asked)
    }
}
