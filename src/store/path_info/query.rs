//! Queries of nix-daemon about one path, each shared by all clients that wait for it.

use crate::fairness::ClientId;
use crate::metrics::Lookup;
use std::sync::Arc;

use crate::store::daemon::pool::MetadataClient;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;
use crate::store::path_info::entry::{Entry, LookupResult, Observation};
use crate::store::path_info::path_stamp::PathStamp;
use crate::store::path_info::store_names::StoreNames;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::views::path_table::PathTable;
use harmonia_protocol::operation::{QueryPathFromHashPart, QueryPathInfo};
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::{HashPart, StorePath};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Maximal number of attempts: a query in flight that a prefetch started may end without a result.
const ATTEMPTS: usize = 3;

impl PathInfoCache {
    /// Queries nix-daemon, or joins a query in flight. If the path is still `hint`, one operation is enough.
    pub(crate) async fn query(
        self: &Arc<Self>,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        client: ClientId,
    ) -> LookupResult {
        self.metrics.narinfo_cache.record_lookup(Lookup::Miss);
        let is_missing = |names: &Arc<StoreNames>| names.lacks(hash, &self.pool);
        if !self.pool.has_daemon() || self.names.get().is_some_and(is_missing) {
            self.entries().remove(&hash);
            return Ok(None);
        }
        for _ in 0..ATTEMPTS {
            let (waiter, leader) = self.single_flight.join(hash, client);
            if let Some(mut leader) = leader {
                let (this, hint, clients) = (Arc::clone(self), hint.clone(), leader.clients());
                tokio::spawn(async move { leader.run(this.query_for(hash, hint, clients)).await });
            }
            if let Some(result) = waiter.wait().await {
                return result;
            }
        }
        Err(StoreError::Abandoned(hash))
    }

    /// Executes a query on a connection acquired by the first of these clients to get one.
    async fn query_for(
        &self,
        hash: HashPart,
        hint: Option<Arc<ValidPath>>,
        clients: mpsc::UnboundedReceiver<ClientId>,
    ) -> LookupResult {
        let mut connection = self.pool.metadata_for_any(clients).await?;
        if let Some(hint) = hint {
            // Most often the path is the same.
            if let Some(valid) = self.info(hint.path.clone(), &mut connection).await? {
                return Ok(Some(valid));
            }
        }
        let Some(path) = connection.call(&QueryPathFromHashPart(hash)).await? else {
            self.entries().remove(&hash);
            return Ok(None);
        };
        if path.hash_part() != hash {
            return Err(StoreError::WrongPath { requested: hash, returned: path });
        }
        self.info(path, &mut connection).await
    }

    async fn info(&self, path: StorePath, connection: &mut MetadataClient<'_>) -> LookupResult {
        let observation = self.observe(vec![path.clone()]).await.pop();
        let info = connection.call(&QueryPathInfo(&path)).await?;
        self.insert(path, info, observation)
    }

    /// Reads the stamps of paths, to be called before they are queried. Returns them in the order of `paths`.
    ///
    /// Uses a blocking thread, because the inodes may not be in memory.
    pub(crate) async fn observe(&self, paths: Vec<StorePath>) -> Vec<Observation> {
        let directory = Arc::clone(&self.real_directory);
        let read = move || {
            let queried_at = Instant::now();
            paths.iter().map(|path| Observation { queried_at, stamp: PathStamp::read(&directory, path) }).collect()
        };
        // Cancelled only when the runtime shuts down.
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// Caches a reply of nix-daemon. If the path info is unchanged, the [`ValidPath`] is kept with all that is cached
    /// in it.
    pub(crate) fn insert(
        &self,
        path: StorePath,
        info: Option<PathInfo>,
        observation: Option<Observation>,
    ) -> LookupResult {
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
        let appeared =
            |before: &Observation| before.stamp.is_none() && PathStamp::read(&self.real_directory, &path).is_some();
        let observation = observation.filter(|before| !appeared(before));
        let mut entries = self.entries();
        let before = entries.peek(&hash).map(|entry| &entry.valid);
        let now = ValidPath::new(path, &info);
        PathTable::correct(&self.viewed, &now.path, &now.info);
        let valid = match before.filter(|before| before.path == now.path && before.info == now.info) {
            Some(before) => Arc::clone(before),
            None => Arc::new(now),
        };
        if let Some(Observation { queried_at, stamp }) = observation {
            let entry = Entry { valid: Arc::clone(&valid), stamp, queried_at: Some(queried_at), prefetched: false };
            entries.insert(hash, entry, valid.weight());
        }
        Ok(Some(valid))
    }
}
