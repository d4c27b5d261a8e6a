//! Requests about the NAR cache: compress the NARs of some paths, now or in the background, or remove them.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::requests::{Refusal, Server};
use crate::nar_cache::{NarCache, Removed, WarmError, WarmOutcome, resolve};
use crate::store::ClosureMember;

/// Limit on the wait of one request for a NAR, which may take longer to compress.
const WARM_TIMEOUT: Duration = Duration::from_secs(30);

/// Store paths that a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paths {
    /// Hash parts.
    pub hash_parts: Vec<String>,
    /// Whether their closures are included.
    pub recursive: bool,
}

/// A path of a closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosurePath {
    /// Base name.
    pub path: String,
    /// Size of its NAR in bytes.
    pub nar_size: u64,
}

/// Progress with one NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WarmProgress {
    /// The outcome, or `None` while the NAR is being compressed: repeat the request.
    pub outcome: Option<WarmOutcome>,
}

/// The result of queuing paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// Number of paths that were queued, from the first on.
    pub queued: usize,
    /// Number of paths in the queue now.
    pub waiting: usize,
}

impl Server {
    /// Looks up paths, and their closures if requested.
    pub(super) async fn closure(&self, paths: &Paths) -> Result<Vec<ClosurePath>, Refusal> {
        let members = resolve(self.app.store(), &hashes(&paths.hash_parts)?, paths.recursive).await.map_err(refusal)?;
        let told = |it: ClosureMember| ClosurePath { path: it.path.base_name().to_owned(), nar_size: it.nar_size };
        Ok(members.into_iter().map(told).collect())
    }

    /// Compresses the NAR of one path. If that takes longer than [`WARM_TIMEOUT`], it continues after the response.
    pub(super) async fn warm(&self, hash_part: &str) -> Result<WarmProgress, Refusal> {
        let (hash, cache) = (hash(hash_part)?, Arc::clone(self.nar_cache()?));
        let warming = tokio::spawn(async move { cache.warm(hash).await });
        match timeout(WARM_TIMEOUT, warming).await {
            Err(_) => Ok(WarmProgress { outcome: None }),
            Ok(Ok(outcome)) => Ok(WarmProgress { outcome: Some(outcome.map_err(refusal)?) }),
            Ok(Err(panicked)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &panicked)),
        }
    }

    /// Queues these paths to be compressed.
    pub(super) async fn enqueue_warm(&self, paths: &Paths) -> Result<Queued, Refusal> {
        let (hashes, cache) = (hashes(&paths.hash_parts)?, self.nar_cache()?);
        let queued = cache.enqueue_warm(&hashes, paths.recursive).await;
        Ok(Queued { queued, waiting: cache.queued_warm() })
    }

    /// Removes the NARs of these paths.
    pub(super) async fn remove(&self, paths: &Paths) -> Result<Removed, Refusal> {
        let hashes = hashes(&paths.hash_parts)?;
        self.nar_cache()?.remove(&hashes, paths.recursive).await.map_err(refusal)
    }

    fn nar_cache(&self) -> Result<&Arc<NarCache>, Refusal> {
        let none = || Refusal::new(StatusCode::CONFLICT, &"the server has no NAR cache; its log says why");
        self.app.nar_cache().filter(|_| self.config.enable_compression).ok_or_else(none)
    }
}

fn hash(text: &str) -> Result<HashPart, Refusal> {
    text.parse().map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error))
}

fn hashes(texts: &[String]) -> Result<Vec<HashPart>, Refusal> {
    texts.iter().map(|text| hash(text)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refusal(error: WarmError) -> Refusal {
    let status = match error {
        WarmError::NotValid(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, &error)
}
