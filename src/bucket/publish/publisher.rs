//! Publisher: puts a batch into the bucket, in the order of its plan.
//!
//! An error leaves what was put, which a later attempt finds and does not put again. Dropping the future is the same.
//! What a garbage collection condemns is neither relied on nor put until it has ended (`gc::Runs`). Narinfos that are old are put
//! again, so that a path that was just published is kept as long as a new one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::{HashPart, StoreDir};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::batch::{Publication, Published};
use super::kept_uploads::KeptUploads;
use super::nar_source::NarSource;
use super::plan::{Item, Known, Plan};
use super::put_nar::{NarPut, put_nar};
use crate::bucket::engine::{BucketError, BucketStore, Operation, Patience, Put, Replace};
use crate::bucket::gc::{Condemned, PUT_TIME, Runs};
use crate::bucket::narinfo::{BucketNarInfo, MAX_NARINFO};
use crate::bucket::object_name::{ObjectName, SegmentId};
use crate::bucket::segment::{MAX_PATHS, Segment};
use crate::config::HostName;

/// Files of NARs that are put at a time. Each has a part of some megabytes in memory.
const NARS: usize = 4;
/// Small objects that are put or looked up at a time.
const SMALL: usize = 16;
/// Numbers that are tried for a segment. Others are taken only if two hosts have the same name.
const MAX_TAKEN: usize = 100;
/// Narinfos that are put after one look at the garbage collections.
const PUTS_OF_A_LOOK: usize = 64;
/// Attempts of a batch, each of which a garbage collection or a slow server may end.
const MAX_ATTEMPTS: usize = 10;
/// Age from which on a narinfo that is published again is put again: well within the time for which young ones are kept.
const OLD: Duration = Duration::from_secs(86_400);

/// Publishes for one host.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Arc<BucketStore>,
    directory: StoreDir,
    host: HostName,
    /// Number of the next segment.
    next: Mutex<SegmentId>,
    kept: Option<KeptUploads>,
    /// Garbage collections, when there was a batch.
    runs: Mutex<Option<Runs>>,
}

/// End of an attempt to publish a batch.
enum Attempt {
    Done,
    /// A garbage collection has begun that condemns what the batch needs, or narinfos took too long.
    Overtaken,
    /// A garbage collection that has not ended condemns what the batch needs.
    Blocked,
}

/// What a narinfo in the bucket says about a path that is to be published.
enum Found {
    Absent,
    /// It has this NAR.
    Same(Stored),
    /// It has another NAR.
    Other(Stored),
}

/// A narinfo as it is in the bucket.
struct Stored {
    bytes: Bytes,
    is_old: bool,
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
            host,
            next: Mutex::new(SegmentId { epoch, sequence: 0 }),
            kept,
            runs: Mutex::default(),
        }
    }

    /// Publishes paths, and returns when the index has them. `indexed` says whether the index has a path already.
    pub(crate) async fn publish<S: NarSource>(
        &self,
        batch: &[Publication],
        source: &S,
        indexed: impl Fn(&HashPart) -> bool,
    ) -> Result<Published, BucketError> {
        let mut published = Published::default();
        let by_path: HashMap<HashPart, &Publication> = batch.iter().map(|it| (it.path(), it)).collect();
        let items: Vec<Item> = by_path.values().map(|publication| publication.item()).collect();
        for _ in 0..MAX_ATTEMPTS {
            let mut runs = self.runs().await?;
            match self.attempt(&by_path, &items, source, &indexed, &mut runs, &mut published).await? {
                Attempt::Done => return Ok(published),
                Attempt::Overtaken => {}
                Attempt::Blocked => {
                    tracing::info!("publishing after garbage collection {} of the bucket has ended", runs.last());
                    runs.wait(&self.store).await?;
                }
            }
        }
        Err(BucketError::timeout(Operation::Put, "narinfos".to_owned()))
    }

    /// Looks at the garbage collections.
    async fn runs(&self) -> Result<Runs, BucketError> {
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
        runs: &mut Runs,
        published: &mut Published,
    ) -> Result<Attempt, BucketError> {
        if runs.open().is_some_and(|condemned| needs_any(items, condemned)) {
            return Ok(Attempt::Blocked);
        }
        published.irreproducible.clear();
        let (mut known, old) = self.known(by_path, items, indexed, published).await?;
        let mut unavailable = HashSet::new();
        let plan = Plan::new(items, &known, &unavailable);
        let puts = stream::iter(plan.nars).map(|(file, size)| async move {
            put_nar(&self.store, source, file, size, self.kept.as_ref()).await.map(|put| (file, put))
        });
        let mut puts = puts.buffer_unordered(NARS);
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
        let placed = || plan.rounds.iter().flatten().filter_map(|path| by_path.get(path).copied());
        self.put_extras(placed()).await?;
        if self.is_overtaken(items, runs).await? {
            return Ok(Attempt::Overtaken);
        }
        let old: Vec<_> = old.into_iter().map(NarInfoPut::Again).collect();
        let new = |round: &Vec<HashPart>| {
            round.iter().filter_map(|path| by_path.get(path).copied()).map(NarInfoPut::New).collect()
        };
        for puts in std::iter::once(old).chain(plan.rounds.iter().map(new)) {
            for puts in puts.chunks(PUTS_OF_A_LOOK) {
                if !runs.is_current() && self.is_overtaken(items, runs).await? {
                    return Ok(Attempt::Overtaken);
                }
                let puts = stream::iter(puts).map(|put| self.put_narinfo(put)).buffer_unordered(SMALL);
                let Ok(results) = timeout(PUT_TIME, puts.try_collect::<Vec<_>>()).await else {
                    return Ok(Attempt::Overtaken);
                };
                for (path, found) in results? {
                    match found {
                        Found::Absent => published.narinfos += 1,
                        Found::Same(_) => {}
                        Found::Other(_) => published.irreproducible.push(path),
                    }
                }
            }
        }
        // This process may have stood still between a look and a put.
        if !runs.was_in_time() && self.is_overtaken(items, runs).await? {
            return Ok(Attempt::Overtaken);
        }
        for paths in plan.indexed.chunks(MAX_PATHS) {
            let mut segment = Segment::default();
            let has_room = paths.iter().all(|path| segment.publish(*path));
            debug_assert!(has_room, "chunks are of a segment's size");
            self.put_segment(&segment).await?;
        }
        published.withheld = plan.withheld.into_iter().map(|withheld| withheld.path).collect();
        Ok(Attempt::Done)
    }

    /// Puts the changes of this host as its next segment, unless there are none.
    pub(crate) async fn put_segment(&self, segment: &Segment) -> Result<(), BucketError> {
        if segment.is_empty() {
            return Ok(());
        }
        let mut next = self.next.lock().await;
        let error = |id, cause: &dyn std::fmt::Display| {
            BucketError::other(Operation::Put, ObjectName::Segment(self.host.clone(), id).to_string(), cause)
        };
        let bytes = Bytes::from(segment.encode().map_err(|cause| error(*next, &cause))?);
        for _ in 0..MAX_TAKEN {
            let put = self
                .store
                .put(&ObjectName::Segment(self.host.clone(), *next), bytes.clone(), Replace::IfAbsent)
                .await?;
            *next = next.next().ok_or_else(|| error(*next, &"there is no number left"))?;
            if put == Put::Written {
                return Ok(());
            }
        }
        Err(error(*next, &"another host has the same name\n  help: set bucket.host"))
    }

    /// Looks up what the bucket has: the narinfos of paths that the index has, and those of references outside of the batch.
    /// Returns the old ones among the former too.
    async fn known(
        &self,
        by_path: &HashMap<HashPart, &Publication>,
        items: &[Item],
        indexed: &impl Fn(&HashPart) -> bool,
        published: &mut Published,
    ) -> Result<(Known, Vec<(HashPart, Bytes)>), BucketError> {
        let mut known =
            Known { indexed: items.iter().map(|item| item.path).filter(indexed).collect(), ..Known::default() };
        let there: Vec<_> = known.indexed.iter().filter_map(|path| by_path.get(path).copied()).collect();
        let found = stream::iter(there)
            .map(|publication| async move { self.find(publication).await.map(|found| (publication.path(), found)) });
        let found: Vec<_> = found.buffer_unordered(SMALL).try_collect().await?;
        let mut old = Vec::new();
        for (path, found) in found {
            let stored = match found {
                Found::Absent => {
                    known.indexed.remove(&path);
                    continue;
                }
                Found::Same(stored) => stored,
                Found::Other(stored) => {
                    published.irreproducible.push(path);
                    stored
                }
            };
            known.narinfos.insert(path);
            if stored.is_old {
                old.push((path, stored.bytes));
            }
        }
        let outside: HashSet<_> = items.iter().flat_map(|item| &item.references).copied().collect();
        let outside = outside.into_iter().filter(|reference| !by_path.contains_key(reference));
        let heads = stream::iter(outside).map(|reference| async move {
            let head = self.store.head(&ObjectName::NarInfo(reference), Patience::Background).await;
            head.map(|head| head.map(|_| reference))
        });
        let heads: Vec<_> = heads.buffer_unordered(SMALL).try_collect().await?;
        known.narinfos.extend(heads.into_iter().flatten());
        Ok((known, old))
    }

    /// Returns whether the bucket has the narinfo of a path, and with the same NAR. One that cannot be used counts as absent.
    async fn find(&self, publication: &Publication) -> Result<Found, BucketError> {
        let path = publication.path();
        let got = self.store.get_dated(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await?;
        let Some((bytes, modified)) = got else { return Ok(Found::Absent) };
        let Ok(found) = BucketNarInfo::parse(&bytes, path, &self.directory) else { return Ok(Found::Absent) };
        let is_old = SystemTime::now().duration_since(modified).is_ok_and(|age| age > OLD);
        let stored = Stored { bytes, is_old };
        let is_same = found.nar_hash() == publication.narinfo.nar_hash();
        Ok(if is_same { Found::Same(stored) } else { Found::Other(stored) })
    }

    /// Puts listings and build logs.
    async fn put_extras(&self, placed: impl Iterator<Item = &Publication>) -> Result<(), BucketError> {
        let extras = placed.flat_map(|publication| {
            let listing = publication.listing.clone().map(|listing| (ObjectName::Listing(publication.path()), listing));
            let log = publication.log.clone().map(|(drv, log)| (ObjectName::Log(drv), log));
            listing.into_iter().chain(log)
        });
        let puts = stream::iter(extras)
            .map(|(name, bytes)| async move { self.store.put(&name, bytes, Replace::IfAbsent).await });
        puts.buffer_unordered(SMALL).try_for_each(|_| std::future::ready(Ok(()))).await
    }

    /// Puts a narinfo, unless another host was faster; `Absent` if it was not.
    async fn put_narinfo(&self, put: &NarInfoPut<'_>) -> Result<(HashPart, Found), BucketError> {
        let publication = match put {
            NarInfoPut::New(publication) => publication,
            NarInfoPut::Again((path, bytes)) => {
                self.store.put(&ObjectName::NarInfo(*path), bytes.clone(), Replace::Always).await?;
                return Ok((*path, Found::Same(Stored { bytes: bytes.clone(), is_old: false })));
            }
        };
        let path = publication.path();
        let name = ObjectName::NarInfo(path);
        let text = Bytes::from(publication.narinfo.render(&self.directory));
        if self.store.put(&name, text.clone(), Replace::IfAbsent).await? == Put::Written {
            return Ok((path, Found::Absent));
        }
        let found = self.find(publication).await?;
        match &found {
            // It is there, but of no use: it was cut short, or is of something else.
            Found::Absent => drop(self.store.put(&name, text, Replace::Always).await?),
            Found::Same(stored) | Found::Other(stored) if stored.is_old => {
                self.store.put(&name, stored.bytes.clone(), Replace::Always).await?;
            }
            Found::Same(_) | Found::Other(_) => {}
        }
        Ok((path, found))
    }
}

/// A narinfo to put.
enum NarInfoPut<'a> {
    /// One of this host.
    New(&'a Publication),
    /// An old one, as it was.
    Again((HashPart, Bytes)),
}

/// Returns whether a garbage collection condemns any of these paths, their references, or their files.
fn needs_any(items: &[Item], condemned: &Condemned) -> bool {
    items.iter().any(|item| {
        condemned.has_path(&item.path)
            || condemned.has_file(&item.file)
            || item.references.iter().any(|reference| condemned.has_path(reference))
    })
}
