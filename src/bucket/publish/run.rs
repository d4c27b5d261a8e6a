//! Publishes what is queued: whole closures, in batches whose NARs fit into the NAR cache.
//!
//! While the bucket or nix-daemon cannot be used, everything stays in the queue, and attempts follow after growing pauses. A
//! path for which requests fail while others succeed is put off with what refers to it, and the others go on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::HashPart;

use super::gather::Origin;
use super::obstacle::{Interruption, Obstacle, cause};
use super::publishing::Work;
use crate::bucket::engine::{BucketError, Patience};
use crate::bucket::index::Indexed;
use crate::bucket::state::Bucket;
use crate::nar_cache::NarCache;
use crate::signing::Signer;
use crate::store::{Store, ValidPath, unix_time};

/// Paths that are taken from the queue at a time, each with its closure.
const MAX_ROOTS: usize = 256;
/// Paths that are looked up at a time.
const PROVEN: usize = 16;
/// First pause after an interruption, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl Bucket {
    /// Publishes what is queued, and keeps the queue on disk. Never returns.
    pub(crate) async fn run_publishing(
        &self,
        store: &Arc<Store>,
        nars: &Arc<NarCache>,
        signer: impl Fn() -> Arc<Signer>,
    ) {
        let publishing = &self.publishing;
        let work = async {
            let mut pause = Duration::ZERO;
            loop {
                let roots = publishing.queue.first(MAX_ROOTS).await;
                let origin = Origin::new(store, nars, signer());
                match self.publish_closures(&origin, &roots).await {
                    Ok(()) => {
                        if !pause.is_zero() {
                            tracing::info!("publishing goes on");
                        }
                        pause = Duration::ZERO;
                    }
                    Err(why) => {
                        if pause.is_zero() {
                            tracing::error!("publishing is interrupted: {why}");
                        } else {
                            tracing::debug!("publishing is interrupted: {why}");
                        }
                        pause = (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
                        publishing.work.send_modify(|work| work.waiting_for = Some(why.to_string()));
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        };
        tokio::join!(work, publishing.queue.save(), publishing.irreproducible.save());
    }

    /// Returns whether a path is known to be in the bucket with its closure.
    pub(super) fn is_published(&self, path: &HashPart) -> bool {
        // What was deleted is not in the index.
        self.publishing.is_done(path) && self.index.look_up(path) != Indexed::No
    }

    /// Looks up those of these paths that count as published, and publishes everything again if one is not there. That
    /// of a path proves its closure: no narinfo is without its references.
    async fn prove_published(&self, roots: &[HashPart]) -> Result<(), Interruption> {
        let presence = &self.publishing.publisher.presence();
        let published = roots.iter().filter(|root| self.is_published(root));
        let looks = published.map(|root| async move {
            presence.has(*root, Patience::Background).await.map(|is_there| (root, is_there))
        });
        let looks = stream::iter(looks.collect::<Vec<_>>());
        let found: Vec<_> = looks.buffer_unordered(PROVEN).try_collect().await?;
        if let Some((lost, _)) = found.iter().find(|(_, is_there)| !is_there) {
            tracing::warn!(
                "{lost} is not in the bucket any more, or no trusted key has signed it: publishing it again"
            );
            self.publishing.forget();
        }
        Ok(())
    }

    async fn publish_closures(&self, origin: &Origin, roots: &[HashPart]) -> Result<(), Interruption> {
        let publishing = &self.publishing;
        self.check_cache_info().await?;
        let runs = publishing.publisher.look().await?;
        publishing.look(runs.last());
        // What another host has published a moment ago is not sent again.
        self.refresh_index().await?;
        self.prove_published(roots).await?;
        let closures = origin.closures(roots, |path| self.is_published(path)).await?;
        publishing.work.send_modify(|work| *work = Work::new(&closures.paths));
        let mut obstacles = closures.obstacles;
        self.publish_batches(origin, &closures.paths, &runs, &mut obstacles).await?;
        let is_gone = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Reference(it) if publishing.is_done(it));
        if obstacles.values().any(is_gone) {
            publishing.forget();
            return Err(Interruption::Deleted);
        }
        publishing.work.send_modify(|work| work.waiting_for = None);
        for root in roots {
            self.finish(*root, cause(*root, &obstacles));
        }
        Ok(())
    }

    /// Ends an attempt to publish a path with its closure, which has failed for this path and reason if there is one.
    fn finish(&self, root: HashPart, cause: Option<(HashPart, &Obstacle)>) {
        let publishing = &self.publishing;
        let Some((path, obstacle)) = cause else {
            publishing.resolved(&root);
            if let (Some(waited), _) = publishing.finish(&root, None, unix_time()) {
                self.metrics.publishing.record_published(Duration::from_secs(waited));
            }
            return;
        };
        let reason = if path == root {
            obstacle.to_string()
        } else {
            format!("{path}, which it refers to, is not in the bucket: {obstacle}")
        };
        let is_awaited = if matches!(obstacle, Obstacle::Failed(_)) {
            publishing.put_off(&root, &reason)
        } else {
            publishing.refused(root);
            publishing.finish(&root, Some(&reason), unix_time()).1
        };
        if obstacle.is_fault() {
            publishing.note_fault(root, &reason);
        } else if !is_awaited {
            tracing::debug!("not publishing {root}: {reason}");
        }
    }

    /// Returns the obstacle that the failure of a request for one object is, if others succeed; else publishing has to wait.
    pub(super) async fn of_object(&self, error: BucketError, origin: &Origin) -> Result<Obstacle, Interruption> {
        match self.put_host_file(origin.nars.tag()).await {
            Ok(()) => Ok(Obstacle::Failed(error.to_string())),
            Err(_) => Err(error.into()),
        }
    }
}

impl Work {
    fn new(paths: &[Arc<ValidPath>]) -> Self {
        let nar_bytes = paths.iter().map(|valid| valid.info.nar_size).fold(0, u64::saturating_add);
        Self { paths: paths.len() as u64, nar_bytes, ..Self::default() }
    }
}
