//! Publisher: puts a batch into the bucket, in the order of its plan.
//!
//! An error leaves what was put, which a later attempt finds and does not put again. Dropping the future is the same.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::{HashPart, StoreDir};
use tokio::sync::Mutex;

use super::batch::{Publication, Published};
use super::kept_uploads::KeptUploads;
use super::nar_source::NarSource;
use super::plan::{Item, Known, Plan};
use super::put_nar::{NarPut, put_nar};
use crate::bucket::engine::{BucketError, BucketStore, Patience, Put, Replace};
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

/// Publishes for one host.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Arc<BucketStore>,
    directory: StoreDir,
    host: HostName,
    /// Number of the next segment.
    next: Mutex<SegmentId>,
    kept: Option<KeptUploads>,
}

/// What a narinfo in the bucket says about a path that is to be published.
enum Found {
    Absent,
    /// It has this NAR.
    Same,
    /// It has another NAR.
    Other,
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
        Self { store, directory, host, next: Mutex::new(SegmentId { epoch, sequence: 0 }), kept }
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
        let mut known = self.known(&by_path, &items, &indexed, &mut published).await?;
        let mut unavailable = HashSet::new();
        let plan = Plan::new(&items, &known, &unavailable);
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
        let plan = Plan::new(&items, &known, &unavailable);
        let placed = || plan.rounds.iter().flatten().filter_map(|path| by_path.get(path).copied());
        self.put_extras(placed()).await?;
        for round in &plan.rounds {
            let round = round.iter().filter_map(|path| by_path.get(path).copied());
            let puts = stream::iter(round).map(|publication| self.put_narinfo(publication)).buffer_unordered(SMALL);
            let results: Vec<_> = puts.try_collect().await?;
            for (path, found) in results {
                match found {
                    Found::Absent => published.narinfos += 1,
                    Found::Same => {}
                    Found::Other => published.irreproducible.push(path),
                }
            }
        }
        for paths in plan.indexed.chunks(MAX_PATHS) {
            let mut segment = Segment::default();
            let has_room = paths.iter().all(|path| segment.publish(*path));
            debug_assert!(has_room, "chunks are of a segment's size");
            self.put_segment(&segment).await?;
        }
        published.withheld = plan.withheld.into_iter().map(|withheld| withheld.path).collect();
        Ok(published)
    }

    /// Puts the changes of this host as its next segment, unless there are none.
    pub(crate) async fn put_segment(&self, segment: &Segment) -> Result<(), BucketError> {
        if segment.is_empty() {
            return Ok(());
        }
        let mut next = self.next.lock().await;
        let error = |id, cause: &dyn std::fmt::Display| {
            BucketError::other(
                crate::bucket::engine::Operation::Put,
                ObjectName::Segment(self.host.clone(), id).to_string(),
                cause,
            )
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
    async fn known(
        &self,
        by_path: &HashMap<HashPart, &Publication>,
        items: &[Item],
        indexed: &impl Fn(&HashPart) -> bool,
        published: &mut Published,
    ) -> Result<Known, BucketError> {
        let mut known =
            Known { indexed: items.iter().map(|item| item.path).filter(indexed).collect(), ..Known::default() };
        let there: Vec<_> = known.indexed.iter().filter_map(|path| by_path.get(path).copied()).collect();
        let found = stream::iter(there)
            .map(|publication| async move { self.find(publication).await.map(|found| (publication.path(), found)) });
        let found: Vec<_> = found.buffer_unordered(SMALL).try_collect().await?;
        for (path, found) in found {
            match found {
                Found::Absent => drop(known.indexed.remove(&path)),
                Found::Same => drop(known.narinfos.insert(path)),
                Found::Other => {
                    known.narinfos.insert(path);
                    published.irreproducible.push(path);
                }
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
        Ok(known)
    }

    /// Returns whether the bucket has the narinfo of a path, and with the same NAR. One that cannot be used counts as absent.
    async fn find(&self, publication: &Publication) -> Result<Found, BucketError> {
        let path = publication.path();
        let bytes = self.store.get(&ObjectName::NarInfo(path), MAX_NARINFO, Patience::Background).await?;
        let found = bytes.and_then(|bytes| BucketNarInfo::parse(&bytes, path, &self.directory).ok());
        Ok(match found {
            None => Found::Absent,
            Some(found) if found.nar_hash() == publication.narinfo.nar_hash() => Found::Same,
            Some(_) => Found::Other,
        })
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
    async fn put_narinfo(&self, publication: &Publication) -> Result<(HashPart, Found), BucketError> {
        let path = publication.path();
        let name = ObjectName::NarInfo(path);
        let text = Bytes::from(publication.narinfo.render(&self.directory));
        if self.store.put(&name, text.clone(), Replace::IfAbsent).await? == Put::Written {
            return Ok((path, Found::Absent));
        }
        match self.find(publication).await? {
            // It is there, but of no use: it was cut short, or is of something else.
            Found::Absent => {
                self.store.put(&name, text, Replace::Always).await?;
                Ok((path, Found::Absent))
            }
            found => Ok((path, found)),
        }
    }
}
