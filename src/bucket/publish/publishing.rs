//! State of publishing: what waits, what is done, and how far the work is.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir};
use tokio::sync::watch;

use super::faults::Faults;
use super::irreproducible::Irreproducible;
use super::jobs::Jobs;
use super::progress::PublishProgress;
use super::publisher::Publisher;
use super::queue::Queue;
use super::state_list::StateList;
use crate::bucket::engine::BucketStore;
use crate::bucket::object_name::RunId;
use crate::config::HostName;
use crate::sync::{LogThrottle, Mutex};

/// Upper bound of paths that are remembered as published, of some fifty bytes. Others are looked up once more.
const MAX_DONE: usize = 1 << 20;
/// Upper bound of paths that are remembered as refused, and the time for which.
const MAX_REFUSED: usize = 10_000;
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// Time after which `nix-cache-info` is looked for again: the bucket may have been emptied.
const CACHE_INFO_FOR: Duration = Duration::from_secs(120);

/// Publishing by this host.
#[derive(Debug)]
pub(in crate::bucket) struct Publishing {
    pub(in crate::bucket) publisher: Publisher,
    pub(super) queue: Queue,
    pub(super) done: Mutex<Done>,
    pub(super) jobs: Mutex<Jobs>,
    /// Work that goes on. Whoever waits for progress is woken by its changes.
    pub(super) work: watch::Sender<Work>,
    pub(super) irreproducible: Irreproducible,
    /// Keys by which all that is published was signed when it was last compared.
    pub(super) keys: StateList,
    /// Paths that all hosts name, when all segments were read.
    listed: Mutex<Option<HashSet<HashPart>>>,
    faults: Mutex<Faults>,
    fault_log: LogThrottle<()>,
    /// Last garbage collection.
    last_run: Mutex<RunId>,
    /// When `nix-cache-info` was last seen in the bucket.
    cache_info: Mutex<Option<Instant>>,
}

/// Paths about which something was found out.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Paths that are in the bucket, with their closures.
    published: HashSet<HashPart>,
    /// Paths that cannot be published, and since when that is known.
    refused: HashMap<HashPart, Instant>,
}

/// Work that goes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    pub(super) paths: u64,
    pub(super) paths_done: u64,
    pub(super) nar_bytes: u64,
    pub(super) nar_bytes_done: u64,
    pub(super) sent: u64,
    pub(super) waiting_for: Option<String>,
}

impl Publishing {
    /// Opens the state of this host, with the queue that a process before has left in a directory below `state`. Blocks on the
    /// disk.
    pub(in crate::bucket) fn open(
        store: Arc<BucketStore>,
        directory: StoreDir,
        host: HostName,
        epoch: u64,
        state: Option<&Path>,
    ) -> Self {
        let state = state.map(|state| state.join("bucket"));
        let queue = Queue::open(state.as_deref());
        let publisher = Publisher::new(store, directory, host, epoch, state.as_deref());
        Self {
            publisher,
            queue,
            done: Mutex::default(),
            jobs: Mutex::new(Jobs::new(epoch)),
            work: watch::Sender::default(),
            irreproducible: Irreproducible::open(state.as_deref()),
            keys: StateList::new(state.as_deref(), "trusted-keys"),
            listed: Mutex::default(),
            faults: Mutex::default(),
            fault_log: LogThrottle::default(),
            last_run: Mutex::default(),
            cache_info: Mutex::default(),
        }
    }

    /// Sets the keys of which one has to have signed what is published. Forgets what is published if they are other ones.
    pub(in crate::bucket) fn set_trusted(&self, keys: &Arc<[PublicKey]>) {
        let before = self.publisher.set_trusted(Arc::clone(keys));
        if !before.is_empty() && before != *keys {
            self.forget();
            // All is looked up again.
            self.set_listed(HashSet::new());
        }
    }

    /// Notes that a path is published, with its closure.
    pub(super) fn published(&self, path: HashPart) {
        let mut done = self.done.lock();
        if done.published.len() >= MAX_DONE {
            done.published.clear();
        }
        done.published.insert(path);
    }

    /// Notes that a path cannot be published.
    pub(super) fn refused(&self, path: HashPart) {
        let mut done = self.done.lock();
        if done.refused.len() >= MAX_REFUSED {
            done.refused.clear();
        }
        done.refused.insert(path, Instant::now());
    }

    /// Returns the keys that are trusted, as texts.
    pub(super) fn trusted_keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.publisher.trusted().iter().map(ToString::to_string).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns the keys that were trusted when all that is published was last compared with them.
    pub(super) async fn checked_keys(&self) -> Vec<String> {
        let list = self.keys.clone();
        tokio::task::spawn_blocking(move || list.read()).await.unwrap_or_default()
    }

    /// Returns whether a path was published, by this host or another.
    pub(super) fn is_done(&self, path: &HashPart) -> bool {
        self.done.lock().published.contains(path)
    }

    /// Returns whether a path was published, or could not be a few minutes ago.
    pub(super) fn is_settled(&self, path: &HashPart) -> bool {
        let done = self.done.lock();
        let is_refused = || done.refused.get(path).is_some_and(|since| since.elapsed() < REFUSED_FOR);
        done.published.contains(path) || is_refused()
    }

    /// Notes the last garbage collection. Forgets what is published if it is a new one, which may delete that.
    pub(super) fn look(&self, last: RunId) {
        let is_new = std::mem::replace(&mut *self.last_run.lock(), last) != last;
        if is_new {
            self.forget();
        }
    }

    /// Forgets what is published, which was deleted perhaps.
    pub(super) fn forget(&self) {
        self.done.lock().published.clear();
    }

    /// Forgets what is published if some of it is not among these paths, which all hosts name. Returns whether that is so.
    pub(in crate::bucket) fn compare(&self, listed: &HashSet<HashPart>) -> bool {
        let mut done = self.done.lock();
        let is_lost = !done.published.is_subset(listed);
        if is_lost {
            // All of it: what was published meanwhile may refer to what is gone.
            done.published.clear();
        }
        is_lost
    }

    /// Notes the paths that all hosts name, for a comparison with the store.
    pub(in crate::bucket) fn set_listed(&self, listed: HashSet<HashPart>) {
        *self.listed.lock() = Some(listed);
    }

    /// Returns the paths that all hosts name, if they are other ones than the last time.
    pub(super) fn take_listed(&self) -> Option<HashSet<HashPart>> {
        self.listed.lock().take()
    }

    /// Returns the number of paths that are published.
    pub(super) fn count(&self) -> usize {
        self.done.lock().published.len()
    }

    /// Removes a path from the queue, and tells the commands that wait for it. Returns the time for which it was queued, in
    /// seconds, and whether a command has waited.
    pub(super) fn finish(&self, path: &HashPart, reason: Option<&str>, now: u64) -> (Option<u64>, bool) {
        let since = self.queue.remove(path);
        let is_awaited = self.jobs.lock().done(path, reason);
        self.work.send_modify(|_| {});
        (since.map(|since| now.saturating_sub(since)), is_awaited)
    }

    /// Puts a path off that has failed for this reason, and tells the commands that wait for it. Returns whether one has waited.
    pub(super) fn put_off(&self, path: &HashPart, reason: &str) -> bool {
        self.queue.put_off(path);
        let is_awaited = self.jobs.lock().done(path, Some(reason));
        self.work.send_modify(|_| {});
        is_awaited
    }

    /// Notes and logs what is wrong with a path.
    pub(super) fn note_fault(&self, path: HashPart, reason: &str) {
        self.faults.lock().note(path, reason);
        if let Some(more) = self.fault_log.admit(()) {
            tracing::warn!("not publishing {path}: {reason}{more}");
        }
    }

    /// Notes that a path is published.
    pub(super) fn resolved(&self, path: &HashPart) {
        self.faults.lock().resolved(path);
    }

    /// Returns paths with which something is wrong, and what.
    pub(in crate::bucket) fn faults(&self) -> Vec<(HashPart, String)> {
        self.faults.lock().list(|path| self.queue.contains(path))
    }

    /// Returns the progress of a command, as soon as there is some, within a time; `None` if there is no such command.
    pub(super) async fn ask(&self, number: u64, within: Duration) -> Option<PublishProgress> {
        let mut work = self.work.subscribe();
        work.borrow_and_update();
        let (mut left, mut refused) = self.jobs.lock().ask(number)?;
        if left > 0 && tokio::time::timeout(within, work.changed()).await.is_ok() {
            (left, refused) = self.jobs.lock().ask(number)?;
        }
        let Work { paths, paths_done, nar_bytes, nar_bytes_done, sent, waiting_for } = work.borrow().clone();
        Some(PublishProgress { left, refused, paths, paths_done, nar_bytes, nar_bytes_done, sent, waiting_for })
    }

    /// Returns whether the bucket had `nix-cache-info` lately.
    pub(super) fn has_cache_info(&self) -> bool {
        self.cache_info.lock().is_some_and(|seen| seen.elapsed() < CACHE_INFO_FOR)
    }

    /// Notes that the bucket has `nix-cache-info`.
    pub(super) fn set_cache_info(&self) {
        *self.cache_info.lock() = Some(Instant::now());
    }

    /// Returns the paths of which the bucket has other builds.
    pub(in crate::bucket) fn irreproducible(&self) -> Vec<HashPart> {
        self.irreproducible.list()
    }
}
