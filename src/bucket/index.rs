//! Index of the fleet: which paths the bucket may have, by the segments of all hosts.
//!
//! A refresh lists the segments and reads those that are new, in whatever order they appear: listings lag. What hosts have removed
//! stays in the filter until it is made anew, soon after segments were put together into fewer. The index denies a path only if it has read every segment that was listed lately;
//! otherwise whoever asks has to look into the bucket.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harmonia_protocol::HashPart;

use super::engine::{BucketError, BucketStore, Patience};
use super::filter::Filter;
use super::object_name::{OWN, ObjectName, SegmentId};
use super::segment::{MAX_SEGMENT, Segment};
use crate::config::HostName;
use crate::sync::Mutex;

/// Upper bound of segments, of which hosts make few large ones now and then. More are not read, and nothing is denied.
const MAX_SEGMENTS: usize = 20_000;
/// Segments that are read at a time, of a megabyte at most.
const READS: usize = 8;
/// Age up to which the filter is fresh. A path that another host publishes is found within this time.
const FRESH: Duration = Duration::from_secs(5);
/// Removed paths after which the filter is made anew, in parts of all paths.
const REMOVED_PART: usize = 10;

/// Time after which what this host has published is in the segments that it reads, and the upper bound of such paths.
const RECENT: Duration = Duration::from_secs(600);
const MAX_RECENT: usize = 100_000;

/// Time after a host's last segment in which its next one is asked for by name, because listings lag: in Swift by about a minute
/// after a storage node was away.
const ACTIVE: Duration = Duration::from_secs(120);
/// Hosts whose next segments are asked for, and segments of each in one refresh.
const MAX_ACTIVE: usize = 16;
const MAX_AHEAD: usize = 8;

/// What the index knows about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexed {
    /// No host has published it.
    No,
    /// A host may have published it.
    Maybe,
    /// The index is stale or incomplete.
    Unknown,
}

/// The filter, and the segments that are in it.
#[derive(Debug)]
pub(crate) struct Index {
    state: Mutex<State>,
    seed: u64,
}

#[derive(Debug)]
struct State {
    filter: Filter,
    /// Segments that are in the filter.
    applied: HashSet<ObjectName>,
    /// Paths that were removed since the filter was made.
    removed: usize,
    /// Paths that were added otherwise than by a segment, with their times.
    recent: VecDeque<(Instant, HashPart)>,
    /// Last segments of hosts, and when they were read.
    active: HashMap<HostName, (SegmentId, Instant)>,
    /// When the last complete refresh began.
    refreshed: Option<Instant>,
}

impl Index {
    /// Creates an index that knows nothing. The seed is secret.
    pub(crate) fn new(seed: u64) -> Self {
        let filter = Filter::new(0, seed);
        let state = State {
            filter,
            applied: HashSet::new(),
            removed: 0,
            recent: VecDeque::new(),
            active: HashMap::new(),
            refreshed: None,
        };
        Self { state: Mutex::new(state), seed }
    }

    /// Returns what is known about a path. Takes less than a microsecond.
    pub(crate) fn look_up(&self, path: &HashPart) -> Indexed {
        self.look_up_at(path, Instant::now())
    }

    fn look_up_at(&self, path: &HashPart, now: Instant) -> Indexed {
        let state = self.state.lock();
        if state.filter.may_contain(path) {
            return Indexed::Maybe;
        }
        let is_fresh = state.refreshed.is_some_and(|refreshed| now.saturating_duration_since(refreshed) <= FRESH);
        if is_fresh { Indexed::No } else { Indexed::Unknown }
    }

    /// Adds a path that this host has published, or has seen in the bucket.
    pub(crate) fn insert(&self, path: &HashPart) {
        let mut state = self.state.lock();
        state.filter.insert(path);
        state.recent.push_back((Instant::now(), *path));
        if state.recent.len() > MAX_RECENT {
            state.recent.pop_front();
        }
    }

    /// Returns the memory of the filter in bytes, and the time since its last refresh.
    pub(crate) fn usage(&self) -> (usize, Option<Duration>) {
        let state = self.state.lock();
        (state.filter.bytes(), state.refreshed.map(|refreshed| refreshed.elapsed()))
    }

    /// Reads segments that are new. After an error the index is as before, but for its age.
    pub(crate) async fn refresh(&self, store: &BucketStore) -> Result<(), BucketError> {
        let began = Instant::now();
        self.read_listed(store, began).await?;
        self.read_ahead(store, began).await
    }

    async fn read_listed(&self, store: &BucketStore, began: Instant) -> Result<(), BucketError> {
        let listed = store.list(&format!("{OWN}index/"), None, MAX_SEGMENTS).await?;
        let is_whole = listed.len() < MAX_SEGMENTS;
        let names: HashSet<_> = listed.into_iter().map(|(name, _)| name).collect();
        let (mut new, unlisted, starts_over) = {
            let state = self.state.lock();
            // The first time, all are new.
            let starts_over = state.applied.is_empty() || state.removed > state.filter.len() / REMOVED_PART;
            let is_new = |name: &&ObjectName| starts_over || !state.applied.contains(*name);
            let new = names.iter().filter(is_new).cloned().collect::<Vec<_>>();
            let unlisted = state.applied.iter().filter(|name| !names.contains(*name)).cloned().collect::<Vec<_>>();
            (new, unlisted, starts_over)
        };
        // A listing may lack what is there; only what is gone was put together with others.
        let (there, gone) = split_by_presence(store, unlisted).await?;
        if starts_over {
            new.extend(there);
        }
        let mut changes = Changes { is_whole, ..Changes::default() };
        changes.read(store, new).await?;
        // Made outside of the lock: a million paths take a tenth of a second.
        let anew = starts_over.then(|| {
            let mut filter = Filter::new(changes.paths.len() + changes.paths.len() / 4, self.seed);
            changes.paths.drain(..).for_each(|path| filter.insert(&path));
            filter
        });
        let mut state = self.state.lock();
        let State { filter, recent, applied, removed, .. } = &mut *state;
        if let Some(anew) = anew {
            (*filter, *removed) = (anew, 0);
            applied.clear();
            recent.retain(|(added, _)| added.elapsed() <= RECENT);
            for (_, path) in recent {
                filter.insert(path);
            }
        } else {
            changes.paths.iter().for_each(|path| filter.insert(path));
            *removed = if gone.is_empty() { removed.saturating_add(changes.removed) } else { usize::MAX };
        }
        // Segments that were there before this program say nothing about who is active.
        if state.refreshed.is_some() {
            let new = changes.applied.iter().filter(|name| !state.applied.contains(*name));
            let new: Vec<_> = new.cloned().collect();
            for name in new {
                state.note_active(name, began);
            }
        }
        state.applied.extend(changes.applied);
        state.applied.retain(|name| !gone.contains(name));
        if changes.is_whole {
            state.refreshed = Some(began);
        }
        Ok(())
    }

    /// Reads segments that the listing does not have yet, by the numbers that follow those of hosts that are active.
    async fn read_ahead(&self, store: &BucketStore, now: Instant) -> Result<(), BucketError> {
        let active: Vec<_> = {
            let mut state = self.state.lock();
            state.active.retain(|_, (_, read)| now.saturating_duration_since(*read) <= ACTIVE);
            state.active.iter().map(|(host, (id, _))| (host.clone(), *id)).collect()
        };
        for (host, last) in active {
            let ahead = std::iter::successors(last.next(), |id| id.next()).take(MAX_AHEAD);
            for id in ahead {
                let name = ObjectName::Segment(host.clone(), id);
                let Some(segment) = read(store, &name).await? else { break };
                // It counts as read when the listing has it.
                segment.published().for_each(|path| self.insert(path));
                self.state.lock().note_active(name, now);
            }
        }
        Ok(())
    }
}

impl State {
    /// Notes that a host has written a segment lately.
    fn note_active(&mut self, name: ObjectName, now: Instant) {
        let ObjectName::Segment(host, id) = name else { return };
        if let Some((last, read)) = self.active.get_mut(&host) {
            if id > *last {
                (*last, *read) = (id, now);
            }
        } else if self.active.len() < MAX_ACTIVE {
            self.active.insert(host, (id, now));
        }
    }
}

/// Reads the segments of all hosts, and returns the paths in them, some of them more than once.
pub(super) async fn indexed_paths(store: &BucketStore) -> Result<Vec<HashPart>, BucketError> {
    let listed = store.list(&format!("{OWN}index/"), None, MAX_SEGMENTS).await?;
    let mut changes = Changes::default();
    changes.read(store, listed.into_iter().map(|(name, _)| name).collect()).await?;
    Ok(changes.paths)
}

/// Contents of segments, from the last to the first of each host.
#[derive(Default)]
struct Changes {
    paths: Vec<HashPart>,
    /// Paths that a later segment of the host removes.
    gone: HashSet<HashPart>,
    removed: usize,
    host: Option<String>,
    applied: HashSet<ObjectName>,
    is_whole: bool,
}

impl Changes {
    async fn read(&mut self, store: &BucketStore, mut names: Vec<ObjectName>) -> Result<(), BucketError> {
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
async fn split_by_presence(
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
async fn read(store: &BucketStore, name: &ObjectName) -> Result<Option<Segment>, BucketError> {
    let Some(bytes) = store.get(name, MAX_SEGMENT, Patience::Background).await? else { return Ok(None) };
    let segment = Segment::decode(&bytes);
    Ok(segment.inspect_err(|error| tracing::warn!("{name} in the bucket cannot be used: {error}")).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::engine::Replace;
    use crate::bucket::narinfo::tests::path;
    use crate::bucket::object_name::SegmentId;

    fn part(number: u64) -> HashPart {
        path(number).hash_part()
    }

    fn name(host: &str, sequence: u32) -> ObjectName {
        ObjectName::Segment(host.parse().unwrap(), SegmentId { epoch: 1, sequence })
    }

    async fn put(store: &BucketStore, host: &str, sequence: u32, published: &[u64], removed: &[u64]) {
        let mut segment = Segment::default();
        assert!(published.iter().all(|number| segment.publish(part(*number))));
        assert!(removed.iter().all(|number| segment.remove(part(*number))));
        let bytes = segment.encode().unwrap().into();
        store.put(&name(host, sequence), bytes, Replace::Always).await.unwrap();
    }

    fn store() -> BucketStore {
        BucketStore::in_memory(&Arc::new(InMemory::new()), 1_000)
    }

    fn found(index: &Index, numbers: std::ops::Range<u64>) -> Vec<u64> {
        numbers.filter(|number| index.look_up(&part(*number)) != Indexed::No).collect()
    }

    #[tokio::test]
    async fn what_any_host_publishes_is_found_in_whatever_order_it_appears() {
        let (store, index) = (store(), Index::new(1));
        assert_eq!(index.look_up(&part(1)), Indexed::Unknown);
        index.refresh(&store).await.unwrap();
        assert_eq!(index.look_up(&part(1)), Indexed::No);
        put(&store, "a", 1, &[1], &[]).await;
        put(&store, "b", 0, &[2], &[]).await;
        index.refresh(&store).await.unwrap();
        // A listing has shown the second of two segments first.
        put(&store, "a", 0, &[3], &[]).await;
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [1, 2, 3]);
        index.insert(&part(4));
        assert_eq!(index.look_up(&part(4)), Indexed::Maybe);
        index.state.lock().applied.clear();
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [1, 2, 3, 4], "made anew before the segment is there");
        let later = Instant::now() + FRESH * 2;
        assert_eq!(index.look_up_at(&part(9), later), Indexed::Unknown);
        assert_eq!(index.look_up_at(&part(1), later), Indexed::Maybe);
    }

    #[tokio::test]
    async fn the_next_segments_of_an_active_host_are_read_before_a_listing_has_them() {
        let (store, index, now) = (store(), Index::new(1), Instant::now());
        put(&store, "a", 0, &[1], &[]).await;
        index.refresh(&store).await.unwrap();
        let requests = || store.metrics().bucket.requests("get", "not_found");
        assert_eq!(requests(), 0, "a host that has done nothing since");
        put(&store, "a", 1, &[2], &[]).await;
        index.refresh(&store).await.unwrap();
        assert_eq!(requests(), 1);
        for sequence in 2..4 {
            put(&store, "a", sequence, &[u64::from(sequence) + 1], &[]).await;
        }
        index.read_ahead(&store, now).await.unwrap();
        assert_eq!(found(&index, 0..10), [1, 2, 3, 4]);
        let before = requests();
        index.read_ahead(&store, Instant::now() + ACTIVE * 2).await.unwrap();
        assert_eq!(requests(), before, "a host that has been quiet");
    }

    #[tokio::test]
    async fn what_its_host_has_removed_is_gone_and_what_another_has_is_not() {
        let store = store();
        put(&store, "a", 0, &[1, 2, 3], &[]).await;
        put(&store, "a", 1, &[4], &[1, 2]).await;
        put(&store, "a", 2, &[2], &[]).await;
        put(&store, "b", 0, &[5], &[3]).await;
        let index = Index::new(1);
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [2, 3, 4, 5]);
        // Made anew when much was removed.
        put(&store, "a", 3, &[], &[4, 3]).await;
        index.refresh(&store).await.unwrap();
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [2, 5]);
    }

    #[tokio::test]
    async fn segments_that_were_put_together_into_one_are_as_before() {
        let (store, index) = (store(), Index::new(1));
        put(&store, "a", 0, &[1, 2], &[]).await;
        put(&store, "a", 1, &[3], &[]).await;
        index.refresh(&store).await.unwrap();
        put(&store, "a", 2, &[1, 2, 3], &[]).await;
        for sequence in 0..2 {
            store.delete(&name("a", sequence)).await.unwrap();
        }
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [1, 2, 3]);
        assert_eq!(index.state.lock().applied.len(), 1);
        // Without one that a garbage collection has deleted.
        put(&store, "b", 0, &[2, 3], &[]).await;
        store.delete(&name("a", 2)).await.unwrap();
        index.refresh(&store).await.unwrap();
        index.refresh(&store).await.unwrap();
        assert_eq!(found(&index, 0..10), [2, 3]);
    }

    #[tokio::test]
    async fn nothing_is_denied_while_a_segment_cannot_be_read() {
        let (store, index) = (store(), Index::new(1));
        put(&store, "a", 0, &[1], &[]).await;
        store.put(&name("a", 1), Bytes::from_static(b"broken"), Replace::Always).await.unwrap();
        index.refresh(&store).await.unwrap();
        assert_eq!((index.look_up(&part(1)), index.look_up(&part(2))), (Indexed::Maybe, Indexed::Unknown));
        put(&store, "a", 1, &[2], &[]).await;
        index.refresh(&store).await.unwrap();
        assert_eq!((index.look_up(&part(2)), index.look_up(&part(3))), (Indexed::Maybe, Indexed::No));
    }
}
