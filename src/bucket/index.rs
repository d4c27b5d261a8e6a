//! Index of the fleet: which paths the bucket may have, by the segments of all hosts.
//!
//! A refresh lists the segments and reads those that are new, in whatever order they appear: listings lag. What hosts have removed
//! stays in the filter until it is made anew, as soon as segments have gone: put together into fewer, or deleted. So a path is in
//! the index only as long as a segment that has it is in the bucket, also if this host has put that. The index denies a path only
//! if it has read every segment that was listed lately; otherwise whoever asks has to look into the bucket.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use super::engine::{BucketError, BucketStore};
use super::filter::Filter;
use super::object_name::{OWN, ObjectName, SegmentId};
use crate::config::HostName;
use crate::sync::Mutex;
use segments::{Changes, read, split_by_presence};

mod segments;

/// Upper bound of segments, of which hosts make few large ones now and then. More are not read, and nothing is denied.
const MAX_SEGMENTS: usize = 20_000;
/// Age up to which the filter is fresh. A path that another host publishes is found within this time.
const FRESH: Duration = Duration::from_secs(5);
/// Removed paths after which the filter is made anew, in parts of all paths.
const REMOVED_PART: usize = 10;

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
    /// Held by the refresh that runs.
    refreshing: tokio::sync::Mutex<()>,
    seed: u64,
}

#[derive(Debug)]
struct State {
    filter: Filter,
    /// Segments that are in the filter.
    applied: HashSet<ObjectName>,
    /// Paths that were removed since the filter was made.
    removed: usize,
    /// Segments that were added since the refresh that runs has begun, with their paths.
    added: Vec<(ObjectName, Vec<HashPart>)>,
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
            added: Vec::new(),
            active: HashMap::new(),
            refreshed: None,
        };
        Self { state: Mutex::new(state), refreshing: tokio::sync::Mutex::default(), seed }
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

    /// Adds a segment that is in the bucket, with the paths in it, before a listing shows it.
    pub(crate) fn insert(&self, segment: ObjectName, paths: Vec<HashPart>) {
        let mut state = self.state.lock();
        for path in &paths {
            state.filter.insert(path);
        }
        state.applied.insert(segment.clone());
        state.added.push((segment, paths));
    }

    /// Returns the memory of the filter in bytes, and the time since its last refresh.
    pub(crate) fn usage(&self) -> (usize, Option<Duration>) {
        let state = self.state.lock();
        (state.filter.bytes(), state.refreshed.map(|refreshed| refreshed.elapsed()))
    }

    /// Reads segments that are new. After an error the index is as before, but for its age. Returns the paths in all segments if
    /// all were read: the first time, and after some have gone.
    pub(crate) async fn refresh(&self, store: &BucketStore) -> Result<Option<Vec<HashPart>>, BucketError> {
        let _alone = self.refreshing.lock().await;
        let began = Instant::now();
        let mut all = self.read_listed(store, began).await?;
        if self.state.lock().is_worn() {
            // What was put together is in a listing that begins now.
            all = self.read_listed(store, Instant::now()).await?;
        }
        match (self.read_ahead(store, began).await, all) {
            (Err(error), None) => Err(error),
            (_, all) => Ok(all),
        }
    }

    async fn read_listed(&self, store: &BucketStore, began: Instant) -> Result<Option<Vec<HashPart>>, BucketError> {
        let is_first = {
            let mut state = self.state.lock();
            state.added.clear();
            state.refreshed.is_none()
        };
        let listed = store.list(&format!("{OWN}index/"), None, MAX_SEGMENTS).await?;
        let is_whole = listed.len() < MAX_SEGMENTS;
        let names: HashSet<_> = listed.into_iter().map(|(name, _)| name).collect();
        let (mut new, unlisted, needs_all, is_worn) = {
            let state = self.state.lock();
            // The first time, all are new.
            let is_worn = state.is_worn();
            let needs_all = is_worn || state.applied.is_empty();
            let is_new = |name: &&ObjectName| needs_all || !state.applied.contains(*name);
            let new = names.iter().filter(is_new).cloned().collect::<Vec<_>>();
            let unlisted = state.applied.iter().filter(|name| !names.contains(*name)).cloned().collect::<Vec<_>>();
            (new, unlisted, needs_all, is_worn)
        };
        // A listing may lack what is there; only what is gone was put together with others, or deleted.
        let (there, gone) = split_by_presence(store, unlisted).await?;
        if needs_all {
            new.extend(there);
        }
        let mut changes = Changes::new(is_whole);
        changes.read(store, new).await?;
        // Made outside of the lock: a million paths take a tenth of a second.
        let anew = needs_all.then(|| {
            let mut filter = Filter::new(changes.paths.len() + changes.paths.len() / 4, self.seed);
            changes.paths.iter().for_each(|path| filter.insert(path));
            filter
        });
        let mut state = self.state.lock();
        let State { filter, added, applied, removed, .. } = &mut *state;
        if let Some(anew) = anew {
            (*filter, *removed) = (anew, 0);
            applied.clear();
            for (segment, paths) in added.drain(..) {
                for path in &paths {
                    filter.insert(path);
                }
                applied.insert(segment);
                changes.paths.extend(paths);
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
        Ok((is_first || is_worn).then_some(changes.paths))
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
                self.insert(name.clone(), segment.published().copied().collect());
                self.state.lock().note_active(name, now);
            }
        }
        Ok(())
    }
}

impl State {
    /// Returns whether the filter has many paths that were removed, or those of segments that have gone.
    fn is_worn(&self) -> bool {
        self.removed > self.filter.len() / REMOVED_PART
    }

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

#[cfg(test)]
mod tests;
