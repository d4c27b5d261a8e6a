//! Publishes what is queued: whole closures, in batches whose NARs fit into the NAR cache.
//!
//! While the bucket or nix-daemon cannot be used, everything stays in the queue, and attempts follow after growing pauses. A
//! path for which requests fail while others succeed is put off with what refers to it, and the others go on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::HashPart;

use super::batch::Publication;
use super::cached_nars::CachedNars;
use super::gather::{Gathered, Origin};
use super::obstacle::{Interruption, Obstacle, cause};
use super::plan::{Known, Withheld};
use super::publisher::Seen;
use super::publishing::{Publishing, Work};
use crate::bucket::engine::{BucketError, Patience};
use crate::bucket::gc::Runs;
use crate::bucket::index::Indexed;
use crate::bucket::state::Bucket;
use crate::nar_cache::NarCache;
use crate::signing::Signer;
use crate::store::{Store, ValidPath, unix_time};

/// Paths that are taken from the queue at a time, each with its closure.
const MAX_ROOTS: usize = 256;
/// Upper bound of the paths of a batch. Their listings and logs are in memory.
const MAX_BATCH: usize = 256;
/// Paths that are gathered at a time. Their NARs wait for encoders, and their files are put meanwhile.
const GATHERED: usize = 8;
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
                let origin = Origin { store: Arc::clone(store), nars: Arc::clone(nars), signer: signer() };
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
        let found: Vec<_> = looks.buffer_unordered(GATHERED).try_collect().await?;
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
        for batch in batches(&closures.paths, origin.nars.max_size() / 2) {
            self.publish_batch(origin, batch, &runs, &mut obstacles).await?;
        }
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
    async fn of_object(&self, error: BucketError, origin: &Origin) -> Result<Obstacle, Interruption> {
        match self.put_host_file(origin.nars.tag()).await {
            Ok(()) => Ok(Obstacle::Failed(error.to_string())),
            Err(_) => Err(error.into()),
        }
    }

    async fn publish_batch(
        &self,
        origin: &Origin,
        batch: &[Arc<ValidPath>],
        runs: &Runs,
        obstacles: &mut BTreeMap<HashPart, Obstacle>,
    ) -> Result<(), Interruption> {
        let Publishing { publisher, work, .. } = &self.publishing;
        let mut largest_first: Vec<_> = batch.to_vec();
        largest_first.sort_by_key(|valid| std::cmp::Reverse(valid.info.nar_size));
        // Collected: a stream that holds a closure cannot be sent to another thread.
        let gathering = largest_first.into_iter().map(|valid| async move {
            let path = valid.path.hash_part();
            let may_be_there = self.index.look_up(&path) != Indexed::No;
            let gathered = match origin.gather(&valid, publisher, may_be_there).await {
                Err(Interruption::Bucket(error)) => Err(self.of_object(error, origin).await?),
                gathered => gathered?,
            };
            work.send_modify(|work| {
                work.nar_bytes_done += valid.info.nar_size;
                if let Ok(Gathered::Ready(_, sent)) = &gathered {
                    work.sent += sent;
                }
            });
            Ok::<_, Interruption>((valid, gathered))
        });
        let gathering = stream::iter(gathering.collect::<Vec<_>>());
        let gathered: Vec<_> = gathering.buffer_unordered(GATHERED).try_collect().await?;
        let (mut known, mut old, mut publications, mut files) =
            (Known::default(), Vec::new(), Vec::new(), HashMap::new());
        for (valid, gathered) in gathered {
            let path = valid.path.hash_part();
            let stored = match gathered {
                Ok(Gathered::Ready(publication, _)) => {
                    known.nars.insert(publication.narinfo.file());
                    self.publishing.irreproducible.remove(&path);
                    files.insert(publication.narinfo.file(), valid);
                    publications.push(*publication);
                    continue;
                }
                Err(obstacle) => {
                    obstacles.insert(path, obstacle);
                    continue;
                }
                Ok(Gathered::Present(stored)) => stored,
                Ok(Gathered::Irreproducible(stored)) => {
                    self.note_irreproducible(path);
                    stored
                }
            };
            known.narinfos.insert(path);
            if stored.is_old {
                old.push((path, stored.bytes));
            }
            publications.push(Publication { narinfo: stored.narinfo, listing: None, log: None });
        }
        let references = publications.iter().flat_map(|it| it.narinfo.references());
        known.narinfos.extend(references.filter(|reference| self.is_published(reference)));
        // If a garbage collection begins meanwhile, all of it is looked up again.
        let was_there: HashSet<_> = known.narinfos.iter().copied().collect();
        let (source, seen) =
            (CachedNars::new(Arc::clone(&origin.nars), files), Seen { runs: runs.clone(), known, old });
        let published = publisher.publish_rest(&publications, &source, |path| was_there.contains(path), seen).await?;
        for (segment, paths) in published.segments {
            // First, so that a comparison finds in it what is published.
            self.index.insert(segment, paths.clone());
            for path in paths {
                self.publishing.published(path);
            }
        }
        published.irreproducible.into_iter().for_each(|path| self.note_irreproducible(path));
        for (path, error) in published.failed {
            obstacles.insert(path, self.of_object(error, origin).await?);
        }
        for Withheld { path, reference } in published.withheld {
            let obstacle = reference.map_or_else(|| Obstacle::Unreadable("it is gone".to_owned()), Obstacle::Reference);
            obstacles.insert(path, obstacle);
        }
        work.send_modify(|work| work.paths_done += batch.len() as u64);
        Ok(())
    }

    fn note_irreproducible(&self, path: HashPart) {
        if self.publishing.irreproducible.insert(path) {
            self.metrics.publishing.record_irreproducible();
            tracing::info!("the bucket has another build of {path}");
        }
    }
}

impl Work {
    fn new(paths: &[Arc<ValidPath>]) -> Self {
        let nar_bytes = paths.iter().map(|valid| valid.info.nar_size).fold(0, u64::saturating_add);
        Self { paths: paths.len() as u64, nar_bytes, ..Self::default() }
    }
}

/// Divides paths into batches whose NARs have at most so many bytes, but at least one path each.
fn batches(paths: &[Arc<ValidPath>], max_bytes: u64) -> Vec<&[Arc<ValidPath>]> {
    let (mut rest, mut batches) = (paths, Vec::new());
    while !rest.is_empty() {
        let mut bytes = 0_u64;
        let fits = |valid: &&Arc<ValidPath>| {
            bytes = bytes.saturating_add(valid.info.nar_size);
            bytes <= max_bytes
        };
        let length = rest.iter().take(MAX_BATCH).take_while(fits).count().max(1).min(rest.len());
        let (batch, others) = rest.split_at(length);
        rest = others;
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::narinfo::tests::{info, path};

    #[test]
    fn batches_have_all_paths_in_order() {
        let paths: Vec<_> = (0..1_000)
            .map(|number| {
                let mut info = info(&[]);
                info.nar_size = if number == 500 { 1 << 40 } else { 100 };
                Arc::new(ValidPath::new(path(number), &info))
            })
            .collect();
        let all = batches(&paths, 10_000);
        assert!(all.iter().all(|batch| batch.len() <= 100));
        assert_eq!(all.concat().len(), 1_000);
        assert!(all.concat().iter().zip(&paths).all(|(a, b)| Arc::ptr_eq(a, b)));
        assert!(batches(&[], 1).is_empty());
    }
}
