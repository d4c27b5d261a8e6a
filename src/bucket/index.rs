//! Index of the fleet: which paths the bucket may have, by the segments of all hosts.
//!
//! A refresh gets the object that names the last segments (`latest`), and reads those that are new. Now and then, and whenever
//! something is missing, it lists all segments, in whatever order they appear: listings lag. What hosts have removed
//! stays in the filter until it is made anew, as soon as a listing shows that segments have gone: put together into fewer, or deleted.
//! So a path is in the index only as long as a segment that has it is in the bucket, also if this host has put that. The index denies
//! a path only if it has read every segment that it knows of; otherwise whoever asks has to look into the bucket.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;

use self::segments::{Changes, split_by_presence};
use super::engine::{BucketError, BucketStore};
use super::filter::Filter;
use super::object_name::{OWN, ObjectName, SegmentId};
use crate::sync::Mutex;

mod latest;
mod segments;

pub(super) use latest::Latest;

/// Upper bound of segments, of which hosts make few large ones now and then. More are not read, and nothing is denied.
const MAX_SEGMENTS: usize = 20_000;
/// Age up to which the filter is fresh. A path that another host publishes is found within this time.
const FRESH: Duration = Duration::from_secs(5);
/// Removed paths after which the filter is made anew, in parts of all paths.
const REMOVED_PART: usize = 10;

/// Time between two listings. They find segments whose lines were lost, and which segments are gone.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// Time between them while a segment cannot be read.
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// Segments of a series before its last one that are read without a listing.
const MAX_BEFORE: usize = 8;

/// Knowledge of the index about a path.
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
    /// Held by the one refresh that runs.
    turn: tokio::sync::Mutex<()>,
    seed: u64,
}

#[derive(Debug)]
struct State {
    filter: Filter,
    /// Segments that are in the filter.
    applied: HashSet<ObjectName>,
    /// Paths that segments have removed since the filter was made.
    removed: usize,
    /// Segments that could not be read when all were listed, and are not asked for until the next time.
    skipped: HashSet<ObjectName>,
    /// Segments that were added since the last refresh has begun, with their paths.
    added: Vec<(ObjectName, Vec<HashPart>)>,
    latest: Latest,
    /// When all segments were listed; `None` if they have to be again.
    listed: Option<Instant>,
    /// All segments that were listed or told of are read.
    is_whole: bool,
    /// When the last complete refresh began.
    refreshed: Option<Instant>,
}

impl Index {
    /// Creates an index that knows nothing. The seed is secret.
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            filter: Filter::new(0, seed),
            applied: HashSet::new(),
            removed: 0,
            skipped: HashSet::new(),
            added: Vec::new(),
            latest: Latest::default(),
            listed: None,
            is_whole: false,
            refreshed: None,
        };
        Self { state: Mutex::new(state), turn: tokio::sync::Mutex::default(), seed }
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

    /// Adds a segment that is in the bucket, with the paths in it, before this host reads it.
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

    /// Returns the last segments that hosts have written, as of the last refresh.
    pub(super) fn latest(&self) -> Latest {
        self.state.lock().latest.clone()
    }

    /// Reads segments that are new. After an error the index is as before, but for its age. Returns the paths in all segments if
    /// all were read: the first time, and after some have gone.
    pub(crate) async fn refresh(&self, store: &BucketStore) -> Result<Option<Vec<HashPart>>, BucketError> {
        let _turn = self.turn.lock().await;
        let began = Instant::now();
        self.state.lock().added.clear();
        let latest = Latest::get(store).await?;
        let is_read = self.read_announced(store, &latest, began).await?;
        let all = if is_read { None } else { self.read_listed(store, &latest, began).await? };
        let mut state = self.state.lock();
        state.latest = latest;
        if state.is_whole {
            state.refreshed = Some(began);
        }
        Ok(all)
    }

    /// Reads the segments that hosts have told of. Returns whether that is all there is to read, as far as one can tell without a
    /// listing.
    async fn read_announced(&self, store: &BucketStore, latest: &Latest, now: Instant) -> Result<bool, BucketError> {
        let new = {
            let state = self.state.lock();
            let every = if state.is_whole { LIST_EVERY } else { LIST_AGAIN };
            let is_due = state.listed.is_none_or(|listed| now.saturating_duration_since(listed) >= every);
            if is_due || latest.has_lost(&state.latest) { None } else { state.announced(latest) }
        };
        let Some(new) = new else { return Ok(false) };
        let changes = Changes::read(store, new).await?;
        let is_all = changes.missing.is_empty() && changes.broken.is_empty();
        let mut state = self.state.lock();
        state.add(changes);
        Ok(is_all)
    }

    async fn read_listed(
        &self,
        store: &BucketStore,
        latest: &Latest,
        began: Instant,
    ) -> Result<Option<Vec<HashPart>>, BucketError> {
        let listed = store.list(&format!("{OWN}index/"), None, MAX_SEGMENTS).await?;
        let is_all = listed.len() < MAX_SEGMENTS;
        let listed: HashSet<_> = listed.into_iter().map(|(name, _)| name).collect();
        let unlisted = {
            let state = self.state.lock();
            state.applied.iter().filter(|name| !listed.contains(*name)).cloned().collect::<Vec<_>>()
        };
        // A listing may lack what is there.
        let (there, gone) = split_by_presence(store, unlisted).await?;
        let announced = latest.segments().map(|(host, id)| ObjectName::Segment(host.clone(), *id));
        let mut new: HashSet<_> = listed.iter().cloned().chain(announced).chain(there).collect();
        new.retain(|name| !gone.contains(name));
        let starts_over = {
            let state = self.state.lock();
            let starts_over =
                state.refreshed.is_none() && state.applied.is_empty() || !gone.is_empty() || state.is_worn();
            new.retain(|name| starts_over || !state.applied.contains(name));
            starts_over
        };
        let mut changes = Changes::read(store, new.into_iter().collect()).await?;
        // Made outside of the lock: a million paths take a tenth of a second.
        let anew = starts_over.then(|| {
            let mut filter = Filter::new(changes.paths.len() + changes.paths.len() / 4, self.seed);
            changes.paths.iter().for_each(|path| filter.insert(path));
            filter
        });
        // Put together with others since they were listed.
        let is_stale = changes.missing.iter().any(|name| listed.contains(name));
        let mut state = self.state.lock();
        state.is_whole = is_all && !is_stale && changes.broken.is_empty();
        state.skipped = changes.missing.drain().chain(changes.broken.drain()).chain(gone.iter().cloned()).collect();
        state.listed = Some(began).filter(|_| !is_stale);
        let Some(anew) = anew else {
            state.add(changes);
            return Ok(None);
        };
        (state.filter, state.removed, state.applied) = (anew, 0, changes.applied);
        for (segment, paths) in std::mem::take(&mut state.added) {
            for path in &paths {
                state.filter.insert(path);
            }
            state.applied.insert(segment);
            changes.paths.extend(paths);
        }
        Ok(Some(changes.paths))
    }
}

impl State {
    /// Returns the segments that hosts have told of and that are not read, with those before them; `None` if those are many.
    fn announced(&self, latest: &Latest) -> Option<Vec<ObjectName>> {
        let mut new = Vec::new();
        for (host, last) in latest.segments() {
            let name = |sequence| ObjectName::Segment(host.clone(), SegmentId { sequence, ..*last });
            let is_known = |name: &ObjectName| self.applied.contains(name) || self.skipped.contains(name);
            let mut unknown = (0..=last.sequence).rev().map(name).take_while(|name| !is_known(name));
            new.extend(unknown.by_ref().take(MAX_BEFORE));
            if unknown.next().is_some() {
                return None;
            }
        }
        Some(new)
    }

    fn add(&mut self, changes: Changes) {
        changes.paths.iter().for_each(|path| self.filter.insert(path));
        self.removed += changes.removed;
        self.applied.extend(changes.applied);
        if self.is_worn() {
            self.listed = None;
        }
    }

    /// Returns whether the filter has many paths that were removed.
    fn is_worn(&self) -> bool {
        self.removed > self.filter.len() / REMOVED_PART
    }
}

#[cfg(test)]
mod tests;
