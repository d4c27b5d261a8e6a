//! Compaction: many segments of the index into few, which say the same.
//!
//! The new ones are put first. The old ones are deleted when listings have had some time to show those.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::HashPart;
use tokio::time::sleep;

use crate::bucket::engine::{BucketError, BucketStore, Operation, Patience, Put, Replace};
use crate::bucket::index::Latest;
use crate::bucket::object_name::{ObjectName, SegmentId};
use crate::bucket::segment::{MAX_PATHS, MAX_SEGMENT, Segment};
use crate::config::HostName;

/// Time between the puts of the new segments and the deletion of the old ones.
const LAG: Duration = Duration::from_secs(30);
/// Segments that are read or deleted at a time.
const REQUESTS: usize = 8;

/// Contents of segments.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// Paths that a host has published and not removed since.
    pub(crate) paths: BTreeSet<HashPart>,
    /// Segments that were read.
    pub(crate) segments: Vec<ObjectName>,
}

impl Merged {
    /// Reads segments. Those that cannot be read are left alone.
    pub(crate) async fn read(store: &BucketStore, mut segments: Vec<ObjectName>) -> Result<Self, BucketError> {
        // The last one of a host first, so that what it has removed is known before it is added.
        segments.sort_unstable_by(|a, b| b.cmp(a));
        let reads = stream::iter(segments).map(|name| async move {
            let bytes = store.get(&name, MAX_SEGMENT, Patience::Background).await?;
            Ok::<_, BucketError>((name, bytes.and_then(|bytes| Segment::decode(&bytes).ok())))
        });
        let mut reads = reads.buffered(REQUESTS);
        let mut merged = Self::default();
        let (mut host, mut gone) = (None, HashSet::new());
        while let Some((name, segment)) = reads.try_next().await? {
            let (ObjectName::Segment(of, _), Some(segment)) = (&name, segment) else { continue };
            if host.as_ref() != Some(of) {
                host = Some(of.clone());
                gone.clear();
            }
            merged.paths.extend(segment.published().filter(|path| !gone.contains(*path)));
            gone.extend(segment.removed().copied());
            merged.segments.push(name);
        }
        Ok(merged)
    }

    /// Returns the number of segments that replace those that were read.
    pub(crate) fn segment_count(&self) -> usize {
        self.paths.len().div_ceil(MAX_PATHS)
    }

    /// Puts them as a series of a host that begins now, in milliseconds since 1970, and tells the other hosts. Returns whether that is done: not if another
    /// process has begun one in the same millisecond.
    pub(crate) async fn put(&self, store: &BucketStore, host: &HostName, now: u64) -> Result<bool, BucketError> {
        let (paths, mut last) = (self.paths.iter().copied().collect::<Vec<_>>(), None);
        for (paths, sequence) in paths.chunks(MAX_PATHS).zip(0..) {
            let id = SegmentId { epoch: now, sequence };
            let name = ObjectName::Segment(host.clone(), id);
            let mut segment = Segment::default();
            let has_room = paths.iter().all(|path| segment.publish(*path));
            debug_assert!(has_room, "chunks are of a segment's size");
            let bytes = segment.encode();
            let bytes = bytes.map_err(|cause| BucketError::other(Operation::Put, name.to_string(), cause))?;
            if store.put(&name, bytes.into(), Replace::IfAbsent).await? == Put::Existed {
                return Ok(false);
            }
            last = Some(id);
        }
        if let Some(last) = last {
            Latest::announce(store, host, last).await?;
        }
        Ok(true)
    }

    /// Deletes the segments that were read, after some time.
    pub(crate) async fn delete(&self, store: &BucketStore) -> Result<(), BucketError> {
        sleep(LAG).await;
        let deletions = stream::iter(self.segments.clone()).map(|name| async move { store.delete(&name).await });
        deletions.buffer_unordered(REQUESTS).try_for_each(|()| std::future::ready(Ok(()))).await
    }
}
