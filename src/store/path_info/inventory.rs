//! The list of all valid paths, for web pages.
//!
//! The reply names every path of the store, which takes nix-daemon a second for a large one. So there is one query at a
//! time, at most one a minute, and only if somebody looks at such a page.

use crate::sync::Mutex;
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::StorePath;
use harmonia_protocol::operation::QueryAllValidPaths;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::store::daemon::pool::Pool;
use crate::store::error::StoreError;
use crate::store::path_info::cache::PathInfoCache;

/// Age up to which a reply is used.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Pause after a failed query.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The valid paths of a store at some time.
#[derive(Debug)]
pub struct Inventory {
    /// Time of the reply.
    pub at: Instant,
    /// Number of valid paths.
    pub paths: usize,
    /// Number of cached paths, and the total size of their NARs in bytes.
    pub cached: (usize, u64),
    /// All paths sorted by name, if the configuration enables browsing.
    pub names: Arc<[StorePath]>,
}

/// Result of the last query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latest {
    pub(crate) attempts: u64,
    pub(crate) inventory: Option<Arc<Inventory>>,
    /// Earliest time of the next query; `None` before the first one.
    due: Option<Instant>,
}

/// The last inventory, and the query for the next one.
#[derive(Debug)]
pub(crate) struct Inventories {
    keeps_names: bool,
    pub(crate) latest: watch::Sender<Latest>,
    pub(crate) is_querying: Mutex<bool>,
}

impl Inventories {
    /// Creates an empty value. With `keeps_names`, each path takes up to 300 bytes, usually a third of that.
    pub(crate) fn new(keeps_names: bool) -> Arc<Self> {
        Arc::new(Self { keeps_names, latest: watch::Sender::default(), is_querying: Mutex::default() })
    }

    /// Starts a query if one is due.
    pub(crate) fn query_if_due(self: &Arc<Self>, pool: &Arc<Pool>, path_infos: &Arc<PathInfoCache>) {
        let mut is_querying = self.is_querying.lock();
        let is_due = self.latest.borrow().due.is_none_or(|due| due <= Instant::now());
        if !is_due || std::mem::replace(&mut *is_querying, true) {
            return;
        }
        let (query, pool, path_infos) =
            (Query { inventories: Arc::clone(self), outcome: None }, Arc::clone(pool), Arc::clone(path_infos));
        tokio::spawn(query.run(pool, path_infos));
    }
}

/// A query in progress. Dropped without a result, also by a panic, it counts as failed.
struct Query {
    inventories: Arc<Inventories>,
    outcome: Option<Inventory>,
}

impl Query {
    async fn run(mut self, pool: Arc<Pool>, path_infos: Arc<PathInfoCache>) {
        match self.inventory(&pool, &path_infos).await {
            Ok(inventory) => self.outcome = Some(inventory),
            Err(error) => tracing::debug!("cannot list the valid paths: {error}"),
        }
    }

    async fn inventory(&self, pool: &Pool, path_infos: &PathInfoCache) -> Result<Inventory, StoreError> {
        let mut names = pool.call(ClientId::Server, &QueryAllValidPaths).await?;
        let paths = names.len();
        if self.inventories.keeps_names {
            names.sort_unstable_by(|a, b| (a.name(), a.base_name()).cmp(&(b.name(), b.base_name())));
        } else {
            names = Vec::new();
        }
        Ok(Inventory { at: Instant::now(), paths, cached: path_infos.sizes().await, names: names.into() })
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let mut is_querying = self.inventories.is_querying.lock();
        *is_querying = false;
        let outcome = self.outcome.take().map(Arc::new);
        self.inventories.latest.send_modify(|latest| {
            latest.attempts += 1;
            latest.due = Some(Instant::now() + if outcome.is_some() { MAX_AGE } else { RETRY_PAUSE });
            latest.inventory = outcome.or(latest.inventory.take());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::advance;

    use super::*;
    use crate::store::state::Store;
    use crate::store::tests::{LAST, bytes, store};

    const PATIENCE: Duration = Duration::from_secs(1);

    /// Returns a store with one more path at each query, and the number of queries.
    fn counting() -> (tempfile::TempDir, Arc<Store>, Arc<AtomicUsize>) {
        let queries = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&queries);
        let (directory, store) = store(move |_, mut stream| {
            let count = Arc::clone(&count);
            async move {
                while stream.read_u64_le().await.is_ok() {
                    let number = 1 + count.fetch_add(1, Ordering::Relaxed);
                    let mut reply = bytes(&[LAST, number as u64]);
                    for number in 0..number {
                        let path = format!("/nix/store/{number:032}-path");
                        reply.extend(bytes(&[path.len() as u64]));
                        reply.extend(path.as_bytes());
                        reply.resize(reply.len().next_multiple_of(8), 0);
                    }
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
        (directory, Arc::new(store), queries)
    }

    #[tokio::test(start_paused = true)]
    async fn nix_daemon_is_queried_once_a_minute() {
        let (_directory, store, queries) = counting();
        let all: Vec<_> = (0..20)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.inventory(PATIENCE).await.unwrap().paths })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), 1);
        }
        advance(MAX_AGE.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert_eq!(store.inventory(PATIENCE).await.unwrap().paths, 1);
        let is_querying = *store.inventories.is_querying.lock();
        assert!(!is_querying && queries.load(Ordering::Relaxed) == 1, "another query was made");
        advance(Duration::from_millis(1)).await;
        // Starts the next query and returns the last inventory.
        assert_eq!(store.inventory(PATIENCE).await.unwrap().paths, 1);
        let mut latest = store.inventories.latest.subscribe();
        latest.wait_for(|latest| latest.attempts == 2).await.unwrap();
        assert_eq!(store.inventory(PATIENCE).await.unwrap().paths, 2);
        assert_eq!(queries.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_nix_daemon_is_queried_once_and_waited_for_briefly() {
        let queries = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&queries);
        let (_directory, store) = store(move |_, mut stream| {
            let count = Arc::clone(&count);
            async move {
                while stream.read_u64_le().await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::future::pending::<()>().await;
            }
        });
        let begin = Instant::now();
        assert!(store.inventory(PATIENCE).await.is_none());
        assert!(begin.elapsed() < PATIENCE + Duration::from_millis(10));
        assert!(store.inventory(PATIENCE).await.is_none());
        assert_eq!(queries.load(Ordering::Relaxed), 1);
    }
}
