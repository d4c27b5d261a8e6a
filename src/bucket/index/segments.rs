//! Reads segments, and looks up which ones are there.

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
    /// Paths that were published, some of them more than once.
    pub(super) paths: Vec<HashPart>,
    /// Number of paths that were removed.
    pub(super) removed: usize,
    /// Segments that were read.
    pub(super) applied: HashSet<ObjectName>,
    /// Whether all segments could be read.
    pub(super) is_whole: bool,
    host: Option<String>,
    /// Paths that a later segment of the host removes.
    gone: HashSet<HashPart>,
}

impl Changes {
    /// Creates the changes of no segment yet. The argument says whether all names of segments are known.
    pub(super) fn new(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    /// Reads these segments.
    pub(super) async fn read(&mut self, store: &BucketStore, mut names: Vec<ObjectName>) -> Result<(), BucketError> {
        // The last segment of a host first, so that what it has removed is known before it is added.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let reads =
            stream::iter(names).map(|name| async move { read(store, &name).await.map(|segment| (name, segment)) });
        let mut reads = reads.buffered(READS);
        while let Some((name, segment)) = reads.try_next().await? {
            self.apply(name, segment);
        }
        Ok(())
    }

    fn apply(&mut self, name: ObjectName, segment: Option<Segment>) {
        let ObjectName::Segment(host, _) = &name else { return };
        if self.host.as_deref() != Some(host.as_str()) {
            self.host = Some(host.to_string());
            self.gone.clear();
        }
        let Some(segment) = segment else {
            self.is_whole = false;
            return;
        };
        self.paths.extend(segment.published().filter(|path| !self.gone.contains(path)));
        self.gone.extend(segment.removed());
        self.removed += segment.removed().len();
        self.applied.insert(name);
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

/// Reads a segment; `None` if it cannot be used, or is gone since it was listed.
pub(super) async fn read(store: &BucketStore, name: &ObjectName) -> Result<Option<Segment>, BucketError> {
    let Some(bytes) = store.get(name, MAX_SEGMENT, Patience::Background).await? else { return Ok(None) };
    let segment = Segment::decode(&bytes);
    Ok(segment.inspect_err(|error| tracing::warn!("{name} in the bucket cannot be used: {error}")).ok())
}
