//! Requests about the bucket: publish paths, tell how far that is, and what waits.

use harmonia_protocol::HashPart;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::requests::{Refusal, Server};
use crate::bucket::{Bucket, PublishProgress, Refused};

/// State of publishing by a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publishing {
    /// Name of the server in the bucket.
    pub(crate) host: String,
    /// Paths that wait to be published with their closures.
    pub(crate) queued: usize,
    /// Time for which the first of them has been waiting, in seconds.
    pub(crate) lag: u64,
    /// Hash parts of paths of which the bucket has another build than this server.
    pub(crate) irreproducible: Vec<String>,
    /// Paths that are not published because something is wrong, with the reasons. Older servers do not say.
    #[serde(default)]
    pub(crate) failed: Vec<Refused>,
}

impl Server {
    /// Queues these paths to be published with their closures, before all others. Returns a number to ask for progress with.
    pub(super) fn publish(&self, hash_parts: &[String]) -> Result<u64, Refusal> {
        let parsed = |text: &String| text.parse::<HashPart>();
        let paths: Result<Vec<_>, _> = hash_parts.iter().map(parsed).collect();
        let paths = paths.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error))?;
        let bucket = self.bucket()?;
        if self.app.nar_cache().is_none() {
            return Err(Refusal::new(StatusCode::CONFLICT, &"the server has no NAR cache\n  help: set nar_cache.dir"));
        }
        bucket.publish(&paths).map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &error))
    }

    /// Returns the progress with the paths of a request, as soon as there is some.
    pub(super) async fn publish_progress(&self, number: u64) -> Result<PublishProgress, Refusal> {
        let unknown = || Refusal::new(StatusCode::NOT_FOUND, &"nobody has asked for these paths to be published");
        self.bucket()?.publish_progress(number).await.ok_or_else(unknown)
    }

    /// Returns what waits to be published.
    pub(super) fn publishing(&self) -> Result<Publishing, Refusal> {
        let bucket = self.bucket()?;
        let (queued, lag) = bucket.queued();
        let irreproducible = bucket.irreproducible().iter().map(ToString::to_string).collect();
        let failed =
            bucket.faults().into_iter().map(|(path, reason)| Refused { path: path.to_string(), reason }).collect();
        Ok(Publishing { host: bucket.host().to_owned(), queued, lag: lag.as_secs(), irreproducible, failed })
    }

    fn bucket(&self) -> Result<&Bucket, Refusal> {
        let none = || Refusal::new(StatusCode::CONFLICT, &"the server has no bucket\n  help: set bucket.url");
        self.app.bucket().map(|bucket| &**bucket).ok_or_else(none)
    }
}
