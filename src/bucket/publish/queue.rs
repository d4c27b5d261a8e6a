//! The queue of paths that are to be published with their closures, in memory and on disk.
//!
//! A path stays in it until it is published or cannot be. What a command waits for comes first, then paths of which clients
//! have a narinfo, then new ones. These are not on disk: a comparison with the bucket finds them again. If the disk cannot be
//! written, the queue goes on in memory, and is written as a whole when that succeeds again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::sync::Notify;

use super::journal::{Journal, Line, MAX_QUEUED};
use crate::store::unix_time;
use crate::sync::{LogThrottle, Mutex};

/// Pause after the disk could not be written.
const DISK_PAUSE: Duration = Duration::from_secs(5);

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
            let first = self.state.lock().first(max);
            if !first.is_empty() {
                return first;
            }
            self.filled.notified().await;
        }
    }

    /// Removes a path that is published, or cannot be. Returns when it was queued, in seconds since 1970.
    pub(super) fn remove(&self, path: &HashPart) -> Option<u64> {
        let mut state = self.state.lock();
        let place = state.by_path.remove(path)?;
        state.waiting.remove(&(place.urgency, place.number));
        if place.urgency != Urgency::New {
            state.unsaved.push(Line::Done(*path));
            self.changed.notify_one();
        }
        Some(place.since)
    }

    /// Returns the number of queued paths.
    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
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
        if before.is_some_and(|before| before.urgency <= urgency) {
            return true;
        }
        if let Some(before) = before {
            self.waiting.remove(&(before.urgency, before.number));
        }
        if urgency != Urgency::New && before.is_none_or(|before| before.urgency == Urgency::New) {
            self.unsaved.push(Line::Queued(path, since));
        }
        let number = self.next;
        self.next += 1;
        self.waiting.insert((urgency, number), path);
        self.by_path.insert(path, Place { urgency, number, since: before.map_or(since, |before| before.since) });
        true
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
            let queued = self.waiting.iter().filter(|((urgency, _), _)| *urgency != Urgency::New);
            let since = |path: &HashPart| self.by_path.get(path).map_or(0, |place| place.since);
            lines = queued.map(|(_, path)| Line::Queued(*path, since(path))).collect();
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

    #[test]
    fn a_full_queue_takes_no_more() {
        let queue = Queue::open(None);
        assert!((0..MAX_QUEUED as u64).all(|number| queue.push(part(number), Urgency::New)));
        assert!(!queue.push(part(MAX_QUEUED as u64), Urgency::Command));
        assert!(queue.push(part(1), Urgency::Command));
    }
}
