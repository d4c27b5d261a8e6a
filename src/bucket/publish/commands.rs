//! Questions of commands and requests to publishing: publish these paths, how far is that, is this path in the bucket.

use std::time::Duration;

use harmonia_protocol::HashPart;

use super::progress::PublishProgress;
use super::queue::Urgency;
use crate::bucket::engine::Patience;
use crate::bucket::index::Indexed;
use crate::bucket::state::Bucket;
use crate::config::Publish;

/// Longest wait for progress.
const PROGRESS_WITHIN: Duration = Duration::from_secs(2);

/// Reason why paths are not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueueError {
    /// The queue is full.
    #[error("the queue of paths to publish is full\n  help: try again when the bucket can be reached")]
    Full,
    /// Too many commands wait.
    #[error("too many commands wait for paths to be published")]
    TooManyCommands,
}

impl Bucket {
    /// Queues paths to be published with their closures, before all others. Returns a number by which
    /// [`Self::publish_progress`] knows them.
    pub(crate) fn publish(&self, paths: &[HashPart]) -> Result<u64, QueueError> {
        // Before they are queued: they may be done at once.
        let number = self.publishing.jobs.lock().add(paths.iter().copied()).ok_or(QueueError::TooManyCommands)?;
        let is_queued = paths.iter().all(|path| self.publishing.queue.push(*path, Urgency::Command));
        if is_queued { Ok(number) } else { Err(QueueError::Full) }
    }

    /// Returns the progress with the paths of a command, as soon as there is some; `None` if there is no such command.
    pub(crate) async fn publish_progress(&self, number: u64) -> Option<PublishProgress> {
        self.publishing.ask(number, PROGRESS_WITHIN).await
    }

    /// Notes that a client was given the narinfo of a path, which is published if the configuration says so.
    pub(crate) fn record_served(&self, path: &HashPart) {
        if self.config.publish == Publish::Served && !self.publishing.is_settled(path) {
            // One that is lost is served again.
            let _ = self.publishing.queue.push(*path, Urgency::Served);
        }
    }

    /// Returns whether the bucket has a path with its closure, so that any host serves it; `None` if that cannot be found out now.
    ///
    /// One request tells: a narinfo is put after those of its references, which are deleted after it. Only what empties the
    /// bucket while a host publishes into it can leave a narinfo without a reference; that host sees it within seconds, and
    /// looks everything up again.
    pub(crate) async fn has(&self, path: &HashPart) -> Option<bool> {
        // A narinfo may be there before the index has it, but not long; nobody is told of it until then.
        if self.index.look_up(path) == Indexed::No {
            return Some(false);
        }
        self.publishing.publisher.presence().has(*path, Patience::Client).await.ok()
    }

    /// Returns the number of paths that wait to be published, and the time for which the first one has been waiting.
    pub(crate) fn queued(&self) -> (usize, Duration) {
        (self.publishing.queue.len(), self.publishing.queue.lag())
    }

    /// Returns the name of this host in the bucket.
    pub(crate) fn host(&self) -> &str {
        self.config.host.as_str()
    }

    /// Returns the paths of which the bucket has another build than this host, in ascending order.
    pub(crate) fn irreproducible(&self) -> Vec<HashPart> {
        self.publishing.irreproducible()
    }

    /// Returns paths that are not published because something is wrong, in ascending order, with the reasons.
    pub(crate) fn faults(&self) -> Vec<(HashPart, String)> {
        self.publishing.faults()
    }

    /// Returns whether the bucket has another build of a path than this host, which is served instead of this host's.
    pub(crate) fn has_other_build(&self, path: &HashPart) -> bool {
        self.publishing.irreproducible.contains(path)
    }

    /// Updates the gauges of the queue.
    pub(crate) fn update_queue_metrics(&self) {
        let (queued, lag) = self.queued();
        self.metrics.publishing.set_queue(queued, lag);
    }

    /// Returns whether a path waits to be published.
    pub(crate) fn is_queued(&self, path: &HashPart) -> bool {
        self.publishing.queue.contains(path)
    }
}
