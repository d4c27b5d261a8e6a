//! The queue of paths that are to be published with their closures, in memory and on disk.
//!
//! A path stays in it until it is published or cannot be. What a command waits for comes first, then paths of which clients
//! have a narinfo, then new ones. One that has failed is put off, for longer each time, so that the others go on. New ones are not on disk: a comparison with the bucket finds them again. If the disk cannot be
//! written, the queue goes on in memory, and is written as a whole when that succeeds again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use harmonia_protocol::HashPart;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::journal::{Journal, Line, MAX_QUEUED};
use crate::store::unix_time;
use crate::sync::{LogThrottle, Mutex};

/// Pause after the disk could not be written.
const DISK_PAUSE: Duration = Duration::from_secs(5);
/// Time for which a path is put off at first, and the longest one.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const MAX_DELAY: Duration = Duration::from_secs(1280);

/// Order of paths in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::bucket) enum Urgency {
    /// A command waits for it.
    Command,
    /// A client has its narinfo.
    Served,
    /// It is new in the store.
    New,
}

/// Paths that wait to be published.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to publish.
    filled: Notify,
    /// There is something to write.
    changed: Notify,
    journal: Option<Journal>,
    errors: LogThrottle<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<(Urgency, u64), HashPart>,
    /// Paths that are put off, with the times until when.
    put_off: BTreeMap<(Instant, u64), HashPart>,
    by_path: HashMap<HashPart, Place>,
    next: u64,
    unsaved: Vec<Line>,
    /// Whether the file lacks lines that are not in `unsaved` any more.
    is_unsaved: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    urgency: Urgency,
    number: u64,
    /// When it was queued, in seconds since 1970.
    since: u64,
    /// Number of attempts that have failed.
    failures: u32,
    /// Time until which it is put off.
    until: Option<Instant>,
}

impl Queue {
    /// Opens the queue in this directory, with what a process before has left; `None` keeps it in memory alone. Blocks on the
    /// disk.
    pub(super) fn open(directory: Option<&Path>) -> Self {
        let opened = directory.and_then(|directory| {
            let opened = Journal::open(directory);
            let log = |cause: &io::Error| {
                tracing::error!("the queue in {} is lost with a restart: {cause}", directory.display());
            };
            opened.inspect_err(log).ok()
        });
        let (journal, left) = opened.unzip();
        let queue = Self {
            state: Mutex::default(),
            filled: Notify::new(),
            changed: Notify::new(),
            journal,
            errors: LogThrottle::default(),
        };
        for (path, since) in left.into_iter().flatten() {
            let _ = queue.state.lock().push(path, Urgency::Served, since);
        }
        queue.state.lock().unsaved.clear();
        queue
    }

    /// Queues a path, or moves it to the front. Returns whether it is in the queue: not if that is full.
    pub(super) fn push(&self, path: HashPart, urgency: Urgency) -> bool {
        let mut state = self.state.lock();
        let is_queued = state.push(path, urgency, unix_time());
        let is_changed = !state.unsaved.is_empty();
        drop(state);
        if is_queued {
            self.filled.notify_one();
        }
        if is_changed {
            self.changed.notify_one();
        }
        is_queued
    }

    /// Waits until there is something to publish, and returns up to `max` paths that come first and are equally urgent. They
    /// remain in the queue.
    pub(super) async fn first(&self, max: usize) -> Vec<HashPart> {
        loop {
            let (first, next) = {
                let mut state = self.state.lock();
                state.resume(Instant::now());
                (state.first(max), state.put_off.first_key_value().map(|((until, _), _)| *until))
            };
            if !first.is_empty() {
                return first;
            }
            let filled = self.filled.notified();
            match next {
                Some(until) => drop(timeout_at(until.into(), filled).await),
                None => filled.await,
            }
        }
    }

    /// Puts a path off that could not be published, for longer each time. One that a command was told of comes after others.
    pub(super) fn put_off(&self, path: &HashPart) {
        self.state.lock().put_off(path, Instant::now());
    }

    /// Removes a path that is published, or cannot be. Returns when it was queued, in seconds since 1970.
    pub(super) fn remove(&self, path: &HashPart) -> Option<u64> {
        let mut state = self.state.lock();
        let place = state.by_path.remove(path)?;
        state.take(&place);
        if place.urgency != Urgency::New {
            state.unsaved.push(Line::Done(*path));
            self.changed.notify_one();
        }
        Some(place.since)
    }

    /// Returns the number of queued paths.
    pub(super) fn len(&self) -> usize {
        self.state.lock().by_path.len()
    }

    /// Returns whether a path is queued.
    pub(super) fn contains(&self, path: &HashPart) -> bool {
        self.state.lock().by_path.contains_key(path)
    }

    /// Returns the time for which the first path has been waiting.
    pub(super) fn lag(&self) -> Duration {
        let oldest = self.state.lock().by_path.values().map(|place| place.since).min();
        Duration::from_secs(oldest.map_or(0, |oldest| unix_time().saturating_sub(oldest)))
    }

    /// Writes changes to the disk as they happen. Never returns.
    pub(super) async fn save(&self) {
        let Some(journal) = &self.journal else { return std::future::pending().await };
        let mut size = u64::MAX;
        loop {
            self.changed.notified().await;
            loop {
                let unsaved = self.state.lock().unsaved(size);
                let Some((lines, is_all)) = unsaved else { break };
                let journal = journal.clone();
                let write = move || if is_all { journal.replace(&lines) } else { journal.append(&lines) };
                match tokio::task::spawn_blocking(write).await.map_err(io::Error::other).and_then(|written| written) {
                    Ok(written) => size = written,
                    Err(cause) => {
                        self.state.lock().is_unsaved = true;
                        if let Some(more) = self.errors.admit(()) {
                            tracing::error!("cannot write the queue of paths to publish{more}: {cause}");
                        }
                        tokio::time::sleep(DISK_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl State {
    fn push(&mut self, path: HashPart, urgency: Urgency, since: u64) -> bool {
        let before = self.by_path.get(&path).copied();
        if before.is_none() && self.by_path.len() >= MAX_QUEUED {
            return false;
        }
        let is_ahead =
            |before: Place| before.urgency <= urgency && (before.until.is_none() || urgency != Urgency::Command);
        if before.is_some_and(is_ahead) {
            return true;
        }
        if let Some(before) = before {
            self.take(&before);
        }
        if urgency != Urgency::New && before.is_none_or(|before| before.urgency == Urgency::New) {
            self.unsaved.push(Line::Queued(path, since));
        }
        let failures = before.map_or(0, |before| before.failures);
        let since = before.map_or(since, |before| before.since);
        self.place(path, Place { urgency, number: self.next, since, failures, until: None });
        self.next += 1;
        true
    }

    /// Enters a path that is nowhere.
    fn place(&mut self, path: HashPart, place: Place) {
        match place.until {
            Some(until) => self.put_off.insert((until, place.number), path),
            None => self.waiting.insert((place.urgency, place.number), path),
        };
        self.by_path.insert(path, place);
    }

    /// Removes a path from where it waits.
    fn take(&mut self, place: &Place) {
        match place.until {
            Some(until) => self.put_off.remove(&(until, place.number)),
            None => self.waiting.remove(&(place.urgency, place.number)),
        };
    }

    fn put_off(&mut self, path: &HashPart, now: Instant) {
        let Some(place) = self.by_path.get(path).copied() else { return };
        self.take(&place);
        let delay = FIRST_DELAY.saturating_mul(1 << place.failures.min(16)).min(MAX_DELAY);
        let urgency = place.urgency.max(Urgency::Served);
        self.place(*path, Place { urgency, failures: place.failures + 1, until: Some(now + delay), ..place });
    }

    /// Returns those to the queue that were put off until now.
    fn resume(&mut self, now: Instant) {
        while let Some(((until, _), path)) = self.put_off.first_key_value() {
            let (until, path) = (*until, *path);
            if until > now {
                break;
            }
            if let Some(place) = self.by_path.get(&path).copied() {
                self.take(&place);
                self.place(path, Place { until: None, ..place });
            }
        }
    }

    fn first(&self, max: usize) -> Vec<HashPart> {
        let Some(((urgency, _), _)) = self.waiting.first_key_value() else { return Vec::new() };
        let equals = self.waiting.range((*urgency, 0)..=(*urgency, u64::MAX));
        equals.take(max).map(|(_, path)| *path).collect()
    }

    /// Takes the lines to write, and whether they are all: if the file of this size has too many of the past.
    fn unsaved(&mut self, size: u64) -> Option<(Vec<Line>, bool)> {
        if self.unsaved.is_empty() && !self.is_unsaved {
            return None;
        }
        let is_all = self.is_unsaved || Journal::is_stale(size, self.by_path.len());
        let mut lines = std::mem::take(&mut self.unsaved);
        if is_all {
            let mut queued: Vec<_> = self.by_path.iter().filter(|(_, place)| place.urgency != Urgency::New).collect();
            queued.sort_unstable_by_key(|(_, place)| (place.urgency, place.number));
            lines = queued.into_iter().map(|(path, place)| Line::Queued(*path, place.since)).collect();
            self.is_unsaved = false;
        }
        Some((lines, is_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::publish::plan::tests::part;

    /// Writes what is unsaved, as the task does.
    fn saved(queue: &Queue, size: u64) -> u64 {
        let journal = queue.journal.as_ref().unwrap();
        match queue.state.lock().unsaved(size) {
            Some((lines, true)) => journal.replace(&lines).unwrap(),
            Some((lines, false)) => journal.append(&lines).unwrap(),
            None => size,
        }
    }

    #[tokio::test]
    async fn commands_come_first_and_paths_stay_until_they_are_done() {
        let queue = Queue::open(None);
        for (number, urgency) in [(1, Urgency::New), (2, Urgency::Served), (3, Urgency::Command), (1, Urgency::Command)]
        {
            assert!(queue.push(part(number), urgency));
        }
        assert_eq!(queue.first(9).await, [part(3), part(1)]);
        assert_eq!(queue.first(1).await, [part(3)]);
        assert!(queue.remove(&part(3)).is_some() && queue.remove(&part(3)).is_none());
        assert_eq!((queue.first(9).await, queue.len()), (vec![part(1)], 2));
    }

    #[test]
    fn a_restart_finds_what_is_not_done_but_for_new_paths() {
        let directory = tempfile::tempdir().unwrap();
        let queue = Queue::open(Some(directory.path()));
        for (number, urgency) in [(1, Urgency::Served), (2, Urgency::New), (3, Urgency::New), (4, Urgency::Served)] {
            assert!(queue.push(part(number), urgency));
        }
        assert!(queue.push(part(3), Urgency::Command));
        queue.remove(&part(1));
        saved(&queue, 0);
        let again = Queue::open(Some(directory.path()));
        let left: Vec<_> = again.state.lock().waiting.values().copied().collect();
        assert_eq!(left, [part(4), part(3)]);
        again.remove(&part(4));
        saved(&again, u64::MAX);
        assert_eq!(Queue::open(Some(directory.path())).len(), 1);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let queue = Queue::open(Some(directory.path()));
        assert!(queue.push(part(1), Urgency::Served));
        // The disk was full.
        assert!(queue.state.lock().unsaved(0).is_some());
        queue.state.lock().is_unsaved = true;
        assert!(queue.push(part(2), Urgency::Served));
        saved(&queue, 0);
        assert_eq!(Queue::open(Some(directory.path())).len(), 2);
    }

    #[tokio::test]
    async fn what_has_failed_is_put_off_for_longer_each_time_and_the_others_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let queue = Queue::open(Some(directory.path()));
        assert!(queue.push(part(1), Urgency::Command) && queue.push(part(2), Urgency::New));
        queue.put_off(&part(1));
        assert_eq!((queue.first(9).await, queue.len()), (vec![part(2)], 2));
        assert!(queue.push(part(1), Urgency::Served), "asking does not end the pause");
        saved(&queue, 0);
        assert_eq!(Queue::open(Some(directory.path())).len(), 1, "it is queued after a restart");
        queue.remove(&part(2));
        let first = |after: Duration| {
            let mut state = queue.state.lock();
            state.resume(Instant::now() + after);
            state.first(9)
        };
        assert_eq!(first(FIRST_DELAY / 2), []);
        assert_eq!(first(FIRST_DELAY), [part(1)]);
        queue.put_off(&part(1));
        assert_eq!((first(FIRST_DELAY), first(FIRST_DELAY * 2)), (vec![], vec![part(1)]));
        (0..40).for_each(|_| queue.put_off(&part(1)));
        assert_eq!((first(MAX_DELAY / 2), first(MAX_DELAY)), (vec![], vec![part(1)]));
        queue.put_off(&part(1));
        assert!(queue.push(part(1), Urgency::Command), "a command does");
        assert_eq!(queue.first(9).await, [part(1)]);
        assert!(queue.remove(&part(1)).is_some());
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let queue = Queue::open(None);
        assert!((0..MAX_QUEUED as u64).all(|number| queue.push(part(number), Urgency::New)));
        assert!(!queue.push(part(MAX_QUEUED as u64), Urgency::Command));
        assert!(queue.push(part(1), Urgency::Command));
    }
}
