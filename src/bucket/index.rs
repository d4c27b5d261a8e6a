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
mod tests;
