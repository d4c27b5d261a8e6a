//! Reads segments of the index from the bucket.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::HashPart;

use crate::bucket::engine::{BucketError, BucketStore, Patience};
use crate::bucket::object_name::ObjectName;
use crate::bucket::segment::{MAX_SEGMENT, Segment};

/// Segments that are read at a time, of a megabyte at most.
const READS: usize = 8;

/// Contents of segments, from the last to the first of each host.
#[derive(Default)]
pub(super) struct Changes {
    /// Published paths, some of them more than once.
    pub(super) paths: Vec<HashPart>,
    /// Paths that the segments remove.
    pub(super) removed: usize,
    /// Segments that were read.
    pub(super) applied: HashSet<ObjectName>,
    /// Segments that are not there.
    pub(super) missing: HashSet<ObjectName>,
    /// Segments that cannot be used.
    pub(super) broken: HashSet<ObjectName>,
    /// The host whose segments are read, and the paths that a later one of them removes.
    host: Option<String>,
    gone: HashSet<HashPart>,
}

/// Result of a read.
enum Read {
    Segment(Segment),
    Missing,
    Broken,
}

impl Changes {
    /// Reads segments.
    pub(super) async fn read(store: &BucketStore, mut names: Vec<ObjectName>) -> Result<Self, BucketError> {
        // The last segment of a host first, so that what it has removed is known before it is added.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let reads = stream::iter(names).map(|name| async move { read(store, &name).await.map(|read| (name, read)) });
        let mut reads = reads.buffered(READS);
        let mut changes = Self::default();
        while let Some((name, read)) = reads.try_next().await? {
            changes.add(name, read);
        }
        Ok(changes)
    }

    fn add(&mut self, name: ObjectName, read: Read) {
        let ObjectName::Segment(host, _) = &name else { return };
        if self.host.as_deref() != Some(host.as_str()) {
            self.host = Some(host.to_string());
            self.gone.clear();
        }
        match read {
            Read::Segment(segment) => {
                self.paths.extend(segment.published().filter(|path| !self.gone.contains(path)));
                self.gone.extend(segment.removed());
                self.removed += segment.removed().len();
                self.applied.insert(name);
            }
            Read::Missing => drop(self.missing.insert(name)),
            Read::Broken => drop(self.broken.insert(name)),
        }
    }
}

/// Looks segments up, and returns those that are there and those that are not.
pub(super) async fn split_by_presence(
    store: &BucketStore,
    segments: Vec<ObjectName>,
) -> Result<(Vec<ObjectName>, HashSet<ObjectName>), BucketError> {
    let heads = stream::iter(segments)
        .map(|name| async move { store.head(&name, Patience::Background).await.map(|head| (name, head.is_some())) });
    let found: Vec<_> = heads.buffer_unordered(READS).try_collect().await?;
    let (there, gone): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, is_there)| *is_there);
    Ok((there.into_iter().map(|(name, _)| name).collect(), gone.into_iter().map(|(name, _)| name).collect()))
}

async fn read(store: &BucketStore, name: &ObjectName) -> Result<Read, BucketError> {
    let Some(bytes) = store.get(name, MAX_SEGMENT, Patience::Background).await? else { return Ok(Read::Missing) };
    Ok(Segment::decode(&bytes).map_or_else(
        |error| {
            tracing::warn!("{name} in the bucket cannot be used: {error}");
            Read::Broken
        },
        Read::Segment,
    ))
}
