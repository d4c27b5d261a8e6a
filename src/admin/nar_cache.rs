//! Requests about compressed NARs: to make those of some paths, at once or by and by, and to remove them.

use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::HashPart;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::requests::{Refusal, Server};
use crate::nar_cache::{NarCache, Removed, WarmError, WarmOutcome, resolve};
use crate::store::ClosureMember;

/// Time that one request waits for a NAR, which may take longer to be made.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Store paths that something is to be done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Their hash parts.
    pub hash_parts: Vec<String>,
    /// Whether all that they refer to is meant too.
    pub recursive: bool,
}

/// A path whose NAR may be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its base name.
    pub path: String,
    /// The length of its NAR in bytes.
    pub nar_size: u64,
}

/// Progress of the server with one NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The outcome; nothing while it is being made: ask again.
    pub outcome: Option<WarmOutcome>,
}

/// Paths that a server has taken over to compress by and by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Of those that were sent, from the first on.
    pub taken: usize,
    /// All that it has to do, with those.
    pub waiting: usize,
}

impl Server {
    /// Looks up paths, and all that they refer to if that is meant.
    pub(super) async fn closure(&self, paths: &Paths) -> Result<Vec<Member>, Refusal> {
        let members = resolve(self.app.store(), &hashes(&paths.hash_parts)?, paths.recursive).await.map_err(refusal)?;
        let told = |it: ClosureMember| Member { path: it.path.base_name().to_owned(), nar_size: it.nar_size };
        Ok(members.into_iter().map(told).collect())
    }

    /// Waits for the NAR of one path, which goes on being made after the answer.
    pub(super) async fn make(&self, hash_part: &str) -> Result<Made, Refusal> {
        let (hash, cache) = (hash(hash_part)?, Arc::clone(self.nar_cache()?));
        let making = tokio::spawn(async move { cache.warm(hash).await });
        match timeout(MAX_WAIT, making).await {
            Err(_) => Ok(Made { outcome: None }),
            Ok(Ok(made)) => Ok(Made { outcome: Some(made.map_err(refusal)?) }),
            Ok(Err(panicked)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, &panicked)),
        }
    }

    /// Takes over to make the NARs of these paths.
    pub(super) async fn hand_over(&self, paths: &Paths) -> Result<Taken, Refusal> {
        let (hashes, cache) = (hashes(&paths.hash_parts)?, self.nar_cache()?);
        let taken = cache.enqueue_warm(&hashes, paths.recursive).await;
        Ok(Taken { taken, waiting: cache.queued_warm() })
    }

    /// Removes the NARs of these paths.
    pub(super) async fn remove(&self, paths: &Paths) -> Result<Removed, Refusal> {
        let hashes = hashes(&paths.hash_parts)?;
        self.nar_cache()?.remove(&hashes, paths.recursive).await.map_err(refusal)
    }

    fn nar_cache(&self) -> Result<&Arc<NarCache>, Refusal> {
        let none = || Refusal::new(StatusCode::CONFLICT, &"the server keeps no compressed nars; its log says why");
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
