//! Publisher: puts a batch into the bucket, in the order of its plan.
//!
//! An error leaves what was put, which a later attempt finds and does not put again. Dropping the future is the same.
//! What a garbage collection condemns is neither relied on nor put until it has ended (`gc::Runs`). Narinfos that are old are put
//! again, so that a path that was just published is kept as long as a new one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::batch::{Publication, Published};
use super::kept_uploads::KeptUploads;
use super::nar_source::NarSource;
use super::plan::{Item, Known, Plan, Withheld};
use super::presence::Presence;
use super::put_nar::{NarPut, UploadMemory, put_nar};
use super::put_narinfo::{Build, NarInfoPut, put_narinfo};
use super::series::Series;
use crate::bucket::engine::{BucketError, BucketStore, Operation, Replace};
use crate::bucket::file_hash::NarFile;
use crate::bucket::gc::{Condemned, PUT_TIME, Runs};
use crate::bucket::object_name::ObjectName;
use crate::bucket::segment::{MAX_PATHS, Segment};
use crate::config::HostName;

/// Files of NARs that are put at a time.
const NARS: usize = 4;
/// Small objects that are put or looked up at a time.
const SMALL: usize = 16;
/// Narinfos that are put after one look at the garbage collections.
const PUTS_OF_A_LOOK: usize = 64;
/// Attempts of a batch, each of which a garbage collection or a slow server may end.
const MAX_ATTEMPTS: usize = 10;

/// Publishes for one host.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Arc<BucketStore>,
    directory: StoreDir,
    pub(in crate::bucket) series: Series,
    kept: Option<KeptUploads>,
    memory: UploadMemory,
    /// Garbage collections, when there was a batch.
    runs: Mutex<Option<Runs>>,
    trusted: crate::sync::Mutex<Arc<[PublicKey]>>,
}

/// Knowledge of a host about a batch beforehand.
pub(super) struct Seen {
    /// Garbage collections, when it looked.
    pub(super) runs: Runs,
    /// Objects that have been there since.
    pub(super) known: Known,
    /// Narinfos that are old, and have to be put again.
    pub(super) old: Vec<(HashPart, Bytes)>,
}

/// End of an attempt to publish a batch.
enum Attempt {
    Done,
    /// A garbage collection has begun that condemns what the batch needs, or narinfos took too long.
    Overtaken,
    /// A garbage collection that has not ended condemns what the batch needs.
    Blocked,
}

impl Publisher {
    /// Creates a publisher that begins a series of segments at `epoch`, in milliseconds since 1970. Uploads in parts are kept
    /// in a directory below `state`, if there is one. Blocks on the disk.
    pub(crate) fn new(
        store: Arc<BucketStore>,
        directory: StoreDir,
        host: HostName,
        epoch: u64,
        state: Option<&Path>,
    ) -> Self {
        let kept = state.and_then(|state| {
            let opened = KeptUploads::open(&state.join("uploads"));
            opened
                .inspect_err(|cause| tracing::warn!("uploads begin anew after a restart: {}: {cause}", state.display()))
                .ok()
        });
        Self {
            store,
            directory,
            series: Series::new(host, epoch),
            kept,
            memory: UploadMemory::default(),
            runs: Mutex::default(),
            trusted: crate::sync::Mutex::default(),
        }
    }

    /// Sets the keys of which one has to have signed a narinfo that is not replaced, and returns those before. Without any, all
    /// narinfos stay.
    pub(crate) fn set_trusted(&self, keys: Arc<[PublicKey]>) -> Arc<[PublicKey]> {
        std::mem::replace(&mut *self.trusted.lock(), keys)
    }

    /// Returns these keys.
    pub(super) fn trusted(&self) -> Arc<[PublicKey]> {
        Arc::clone(&self.trusted.lock())
    }

    /// Publishes paths, and returns when the index has them. `indexed` says whether the index has a path already.
    pub(crate) async fn publish<S: NarSource>(
        &self,
        batch: &[Publication],
        source: &S,
        indexed: impl Fn(&HashPart) -> bool,
    ) -> Result<Published, BucketError> {
        self.publish_rest(
            batch,
            source,
            indexed,
            Seen { runs: self.look().await?, known: Known::default(), old: Vec::new() },
        )
        .await
    }

    /// Publishes what is missing of these paths, and returns when the index has them. `indexed` says whether the index has a
    /// path already, and `seen` what else is there.
    pub(super) async fn publish_rest<S: NarSource>(
        &self,
        batch: &[Publication],
        source: &S,
        indexed: impl Fn(&HashPart) -> bool,
        seen: Seen,
    ) -> Result<Published, BucketError> {
        let mut published = Published::default();
        let by_path: HashMap<HashPart, &Publication> = batch.iter().map(|it| (it.path(), it)).collect();
        let items: Vec<Item> = by_path.values().map(|publication| publication.item()).collect();
        let Seen { mut runs, known, old } = seen;
        let mut seen = Some((known, old));
        for _ in 0..MAX_ATTEMPTS {
            // What was seen before a garbage collection that touches it may be gone.
            let (known, old) = seen.take().unwrap_or_default();
            match self.attempt(&by_path, &items, source, &indexed, (&mut runs, known, old), &mut published).await? {
                Attempt::Done => return Ok(published),
                Attempt::Overtaken => {}
                Attempt::Blocked => {
                    tracing::info!("publishing after garbage collection {} of the bucket has ended", runs.last());
                    runs.wait(&self.store).await?;
                }
            }
            runs = self.look().await?;
        }
        Err(BucketError::timeout(Operation::Put, "narinfos".to_owned()))
    }

    /// Puts the file of a NAR, unless the bucket has it.
    pub(super) async fn put_nar<S: NarSource>(
        &self,
        source: &S,
        file: NarFile,
        size: u64,
    ) -> Result<NarPut, BucketError> {
        put_nar(&self.store, source, file, size, self.kept.as_ref(), &self.memory).await
    }

    /// Returns requests for what is there.
    pub(super) fn presence(&self) -> Presence<'_> {
        Presence { store: &self.store, directory: &self.directory, trusted: self.trusted() }
    }

    /// Looks at the garbage collections.
    pub(super) async fn look(&self) -> Result<Runs, BucketError> {
        let mut kept = self.runs.lock().await;
        let runs = match kept.take() {
            Some(mut runs) => {
                runs.look(&self.store).await?;
                runs
            }
            None => Runs::find(&self.store).await?,
        };
        *kept = Some(runs.clone());
        Ok(runs)
    }

    /// Looks at the garbage collections again, and returns whether one that is new condemns what these paths need.
    async fn is_overtaken(&self, items: &[Item], runs: &mut Runs) -> Result<bool, BucketError> {
        Ok(runs.look(&self.store).await?.iter().any(|condemned| needs_any(items, condemned)))
    }

    async fn attempt<S: NarSource>(
        &self,
        by_path: &HashMap<HashPart, &Publication>,
        items: &[Item],
        source: &S,
        indexed: &impl Fn(&HashPart) -> bool,
        (runs, known, mut old): (&mut Runs, Known, Vec<(HashPart, Bytes)>),
        published: &mut Published,
    ) -> Result<Attempt, BucketError> {
        if runs.open().is_some_and(|condemned| needs_any(items, condemned)) {
            return Ok(Attempt::Blocked);
        }
        published.irreproducible.clear();
        published.failed.clear();
        let mut known = self.presence().look_up(by_path, items, indexed, (known, &mut old), published).await?;
        let mut unavailable = HashSet::new();
        let plan = Plan::new(items, &known, &unavailable);
        // Collected, as below: a stream that holds a closure cannot be sent to another thread.
        let puts = plan
            .nars
            .into_iter()
            .map(|(file, size)| async move { self.put_nar(source, file, size).await.map(|put| (file, put)) });
        let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(NARS);
        while let Some((file, put)) = puts.try_next().await? {
            match put {
                NarPut::Sent(bytes) => {
                    published.nars += 1;
                    published.nar_bytes += bytes;
                    known.nars.insert(file);
                }
                NarPut::Existed => drop(known.nars.insert(file)),
                NarPut::Unavailable(reason) => {
                    tracing::warn!("not publishing what refers to nar/{file}: {reason}");
                    unavailable.insert(file);
                }
            }
        }
        let plan = Plan::new(items, &known, &unavailable);
        let placed = plan.rounds.iter().flatten().filter_map(|path| by_path.get(path).copied());
        self.put_extras(placed.collect()).await?;
        if self.is_overtaken(items, runs).await? {
            return Ok(Attempt::Overtaken);
        }
        let old: Vec<_> = old.into_iter().map(NarInfoPut::Again).collect();
        let new = |round: &Vec<HashPart>| {
            round.iter().filter_map(|path| by_path.get(path).copied()).map(NarInfoPut::New).collect()
        };
        let (mut failed, presence) = (HashSet::new(), &self.presence());
        let rounds: Vec<Vec<NarInfoPut<'_>>> = std::iter::once(old).chain(plan.rounds.iter().map(new)).collect();
        for puts in rounds {
            for puts in puts.chunks(PUTS_OF_A_LOOK) {
                if !runs.is_current() && self.is_overtaken(items, runs).await? {
                    return Ok(Attempt::Overtaken);
                }
                let (above, puts): (Vec<_>, Vec<_>) = puts.iter().partition(|put| put.refers_to(&failed));
                failed.extend(above.into_iter().map(NarInfoPut::path));
                let puts = puts.into_iter().map(|put| async move { (put.path(), put_narinfo(presence, put).await) });
                let puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(SMALL);
                let Ok(results) = timeout(PUT_TIME, puts.collect::<Vec<_>>()).await else {
                    return Ok(Attempt::Overtaken);
                };
                for (path, result) in results {
                    match result {
                        Ok(Build::Put) => published.narinfos += 1,
                        Ok(Build::Same) => {}
                        Ok(Build::Other) => published.irreproducible.push(path),
                        Err(error) if error.kind.may_pass() => return Err(error),
                        Err(error) => {
                            failed.insert(path);
                            published.failed.push((path, error));
                        }
                    }
                }
            }
        }
        // This process may have stood still between a look and a put.
        if !runs.was_in_time() && self.is_overtaken(items, runs).await? {
            return Ok(Attempt::Overtaken);
        }
        let (above, indexed): (Vec<_>, Vec<_>) = plan.indexed.into_iter().partition(|path| failed.contains(path));
        for paths in indexed.chunks(MAX_PATHS) {
            let mut segment = Segment::default();
            let has_room = paths.iter().all(|path| segment.publish(*path));
            debug_assert!(has_room, "chunks are of a segment's size");
            let name = self.series.put(&self.store, &segment).await?;
            published.segments.extend(name.map(|name| (name, paths.to_vec())));
        }
        published.withheld = plan.withheld;
        let references = |path| by_path.get(path).into_iter().flat_map(|it| it.narinfo.references());
        let reference = |path| references(path).find(|reference| failed.contains(reference));
        let above =
            above.iter().filter_map(|path| reference(path).map(|it| Withheld { path: *path, reference: Some(it) }));
        published.withheld.extend(above);
        Ok(Attempt::Done)
    }

    /// Puts listings and build logs.
    pub(super) async fn put_extras(&self, placed: Vec<&Publication>) -> Result<(), BucketError> {
        let extras = placed.into_iter().flat_map(|publication| {
            let listing = publication.listing.clone().map(|listing| (ObjectName::Listing(publication.path()), listing));
            let log = publication.log.clone().map(|(drv, log)| (ObjectName::Log(drv), log));
            listing.into_iter().chain(log)
        });
        let puts = extras.map(|(name, bytes)| async move {
            match self.store.put(&name, bytes, Replace::IfAbsent).await {
                // Nothing depends on it.
                Err(error) if !error.kind.may_pass() => tracing::warn!("a path is published without it: {error}"),
                result => drop(result?),
            }
            Ok(())
        });
        let puts = stream::iter(puts.collect::<Vec<_>>());
        puts.buffer_unordered(SMALL).try_for_each(|()| std::future::ready(Ok(()))).await
    }
}

/// Returns whether a garbage collection condemns any of these paths, their references, or their files.
pub(in crate::bucket) fn needs_any(items: &[Item], condemned: &Condemned) -> bool {
    items.iter().any(|item| {
        condemned.has_path(&item.path)
            || condemned.has_file(&item.file)
            || item.references.iter().any(|reference| condemned.has_path(reference))
    })
}
