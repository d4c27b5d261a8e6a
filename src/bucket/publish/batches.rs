//! Batches of paths, in a row: while the narinfos of one are put, the NARs of the next are compressed and put.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::stream::FuturesUnordered;
use harmonia_protocol::HashPart;
use tokio::sync::mpsc;

use super::batch::Publication;
use super::cached_nars::CachedNars;
use super::gather::{Gathered, Origin};
use super::obstacle::{Interruption, Obstacle};
use super::plan::{Known, Withheld};
use super::publisher::Seen;
use super::publishing::Publishing;
use crate::bucket::gc::Runs;
use crate::bucket::index::Indexed;
use crate::bucket::state::Bucket;
use crate::store::ValidPath;

/// Upper bound of the paths of a batch.
const MAX_BATCH: usize = 256;
/// Paths that are gathered at a time: NARs wait for encoders while files of others are put, which takes a while each.
const GATHERED: usize = 32;
/// Batches whose NARs are in the NAR cache at a time: one is put, one waits for that, and one or two are gathered.
const IN_CACHE: u64 = 4;

/// A path that was gathered, or cannot be published.
type Gathering = (Arc<ValidPath>, Result<Gathered, Obstacle>);

impl Bucket {
    /// Publishes paths, references before referrers, in batches whose NARs fit into the NAR cache.
    pub(super) async fn publish_batches(
        &self,
        origin: &Origin,
        paths: &[Arc<ValidPath>],
        runs: &Runs,
        obstacles: &mut BTreeMap<HashPart, Obstacle>,
    ) -> Result<(), Interruption> {
        let (sender, mut gathered) = mpsc::channel(1);
        let putting = async move {
            while let Some(batch) = gathered.recv().await {
                self.put_batch(origin, batch, runs, obstacles).await?;
            }
            Ok(())
        };
        tokio::try_join!(self.gather_batches(origin, paths, runs.open().is_some(), sender), putting).map(drop)
    }

    /// Gathers paths, and sends each batch that is complete.
    async fn gather_batches(
        &self,
        origin: &Origin,
        paths: &[Arc<ValidPath>],
        is_collecting: bool,
        sender: mpsc::Sender<Vec<Gathering>>,
    ) -> Result<(), Interruption> {
        let batches = batches(paths, origin.nars.max_size() / IN_CACHE);
        let in_order = |(number, batch): (usize, &&[Arc<ValidPath>])| {
            let mut largest_first = batch.to_vec();
            largest_first.sort_by_key(|valid| std::cmp::Reverse(valid.info.nar_size));
            largest_first.into_iter().map(move |valid| (number, valid)).collect::<Vec<_>>()
        };
        // Collected: an iterator that holds a closure cannot be sent to another thread.
        let mut waiting = batches.iter().enumerate().flat_map(in_order).collect::<Vec<_>>().into_iter();
        let (mut running, mut incomplete) = (FuturesUnordered::new(), HashMap::<usize, Vec<Gathering>>::new());
        loop {
            while running.len() < GATHERED {
                let Some((number, valid)) = waiting.next() else { break };
                running.push(self.gather(origin, number, valid, is_collecting));
            }
            let Some((number, gathering)) = running.try_next().await? else { return Ok(()) };
            let batch = incomplete.entry(number).or_default();
            batch.push(gathering);
            if batch.len() == batches[number].len() {
                // Fails if the other side has failed, which ends this one too.
                let _ = sender.send(incomplete.remove(&number).unwrap_or_default()).await;
            }
        }
    }

    /// Gathers a path of a batch.
    async fn gather(
        &self,
        origin: &Origin,
        number: usize,
        valid: Arc<ValidPath>,
        is_collecting: bool,
    ) -> Result<(usize, Gathering), Interruption> {
        let path = valid.path.hash_part();
        let may_be_there = self.index.look_up(&path) != Indexed::No;
        let Publishing { publisher, work, .. } = &self.publishing;
        let gathered = match origin.gather(&valid, publisher, (may_be_there, is_collecting)).await {
            Err(Interruption::Bucket(error)) => Err(self.of_object(error, origin).await?),
            gathered => gathered?,
        };
        work.send_modify(|work| {
            work.nar_bytes_done += valid.info.nar_size;
            if let Ok(Gathered::Ready(_, sent)) = &gathered {
                work.sent += sent;
            }
        });
        Ok((number, (valid, gathered)))
    }

    /// Puts what belongs to the paths of a batch, and their narinfos.
    async fn put_batch(
        &self,
        origin: &Origin,
        batch: Vec<Gathering>,
        runs: &Runs,
        obstacles: &mut BTreeMap<HashPart, Obstacle>,
    ) -> Result<(), Interruption> {
        let Publishing { publisher, work, .. } = &self.publishing;
        let paths = batch.len() as u64;
        let (mut known, mut old, mut publications, mut files) =
            (Known::default(), Vec::new(), Vec::new(), HashMap::new());
        // Not the paths of `files`, of which several may share one.
        let mut with_nars = HashSet::new();
        for (valid, gathered) in batch {
            let path = valid.path.hash_part();
            let stored = match gathered {
                Ok(Gathered::Ready(publication, _)) => {
                    known.nars.insert(publication.narinfo.file());
                    with_nars.insert(path);
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
            if reference.is_none() && !with_nars.contains(&path) {
                // Its narinfo was there, so that nobody has compressed its NAR, and is deleted now.
                self.publishing.forget();
                return Err(Interruption::Deleted);
            }
            let obstacle = reference.map_or_else(|| Obstacle::Unreadable("it is gone".to_owned()), Obstacle::Reference);
            obstacles.insert(path, obstacle);
        }
        work.send_modify(|work| work.paths_done += paths);
        Ok(())
    }

    fn note_irreproducible(&self, path: HashPart) {
        if self.publishing.irreproducible.insert(path) {
            self.metrics.publishing.record_irreproducible();
            tracing::info!("the bucket has another build of {path}");
        }
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
