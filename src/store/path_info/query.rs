//! Queries of nix-daemon about one path, each shared by all clients that wait for it.

use crate::fairness::ClientId;
use crate::metrics::Lookup;
use std::sync::Arc;

use crate::store::daemon::pool::MetadataClient;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::entry::{Answer, Entry, Observation};
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::valid_path::ValidPath;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Upper bound of attempts: a query that a prefetch began may end without a reply.
const ATTEMPTS: usize = 3;
impl PathInfoCache {
    /// Queries nix-daemon, or joins a query in flight. If the path is still `hint`, one operation is enough.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        client: ClientId,
    ) -> Answer {
        self.metrics.narinfo_cache.record_lookup(Lookup::Miss);
        for _ in 0..ATTEMPTS {
            let (waiter, leader) = self.single_flight.join(hash, client);
            if let Some(mut leader) = leader {
                let (this, hint, clients) = (Arc::clone(self), hint.clone(), leader.clients());
                tokio::spawn(async move { leader.run(this.question(hash, hint, clients)).await });
            }
            if let Some(answer) = waiter.wait().await {
                return answer;
            }
        }
        Err(StoreError::Abandoned(hash))
    }

    /// Executes a query when the first of these clients has its turn. Both operations use one connection.
    async fn question(
        &self,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        clients: mpsc::UnboundedReceiver<ClientId>,
    ) -> Answer {
        let mut questions = self.pool.metadata_for_any(clients).await?;
        if let Some(hint) = hint {
            // Most often the path is the same.
            if let Some(valid) = self.info(hint.path.clone(), &mut questions).await? {
                return Ok(Some(valid));
            }
        }
        let Some(path) = questions.call(&QueryPathFromHashPart(hash)).await? else {
            self.entries().remove(&hash);
            return Ok(None);
        };
        if path.hash_part() != hash {
            return Err(StoreError::WrongPath { asked: hash, answered: path });
        }
        self.info(path, &mut questions).await
    }

    async fn info(&self, path: StorePath, questions: &mut MetadataClient<'_>) -> Answer {
        let observation = self.observe(vec![path.clone()]).await.pop();
        let info = questions.call(&QueryPathInfo(&path)).await?;
        self.insert(path, info, observation)
    }

    /// Reads the stamps of paths before they are queried, in their order. On another thread, because their inodes may
    /// not be in memory.
    pub(crate) async fn observe(&self, paths: Vec<StorePath>) -> Vec<Observation> {
        let directory = Arc::clone(&self.real_directory);
        let look = move || {
            let asked = Instant::now();
            paths.iter().map(|path| Observation { asked, stamp: PathStamp::read(&directory, path) }).collect()
        };
        // Cancelled only when the runtime shuts down.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Caches a reply of nix-daemon. An unchanged info keeps its value, and so everything that is cached with it.
    pub(crate) fn insert(&self, path: StorePath, info: Option<PathInfo>, observation: Option<Observation>) -> Answer {
        let hash = path.hash_part();
        let Some(info) = info else {
            self.entries().remove(&hash);
            return Ok(None);
        };
        if info.nar_size == 0 {
            self.entries().remove(&hash);
            return Err(StoreError::UnknownSize(path));
        }
        // A path that appeared during the query is not cached: if it disappeared again, its stamp would be the same.
        let came = |seen: &Observation| seen.stamp.is_none() && PathStamp::read(&self.real_directory, &path).is_some();
        let observation = observation.filter(|seen| !came(seen));
        let mut known = self.entries();
        let before = known.peek(&hash).map(|known| &known.valid);
        let now = ValidPath::new(path, &info);
        let valid = match before.filter(|before| before.path == now.path && before.info == now.info) {
            Some(before) => Arc::clone(before),
            None => Arc::new(now),
        };
        if let Some(Observation { asked, stamp }) = observation {
            let entry = Entry { valid: Arc::clone(&valid), stamp, asked: Some(asked), prefetched: false };
            known.insert(hash, entry, valid.weight());
        }
        Ok(Some(valid))
    }
}
