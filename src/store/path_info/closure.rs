//! Closures: valid paths with everything that they refer to, directly or not.
//!
//! The traversal is bounded and goes level by level. Path infos come from the cache, so that a second traversal needs
//! no query. An incomplete result carries the reason.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use harmonia_protocol::{HashPart, StorePath};
use tokio::time::{Instant, timeout_at};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::prefetch_queue::BATCH;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

/// Additional time for queries in progress: dropping them would close a connection to nix-daemon.
const GRACE: Duration = Duration::from_secs(1);

/// Used if no time limit is given.
const NO_TIME_LIMIT: Duration = Duration::from_secs(86_400 * 365);

/// Limits of a traversal.
#[derive(Debug, Clone, Copy)]
pub struct ClosureLimits {
    /// Maximal number of paths, which take up to 300 bytes each, and usually a third of that.
    pub paths: usize,
    /// Time limit, if there is one. Queries in progress get one more second.
    pub time: Option<Duration>,
}

/// A path of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosureMember {
    /// Store path.
    pub path: StorePath,
    /// Size of its NAR, in bytes.
    pub nar_size: u64,
}

/// Result of a traversal.
#[derive(Debug)]
pub struct Closure {
    /// Paths in the order in which they were found, the roots first, without duplicates.
    pub members: Vec<ClosureMember>,
    /// First reason why paths may be missing.
    pub incomplete: Option<Incomplete>,
}

/// Reason why a closure is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// The limit of paths was reached.
    #[error("it has more than {0} paths")]
    TooManyPaths(usize),
    /// The time limit was reached.
    #[error("its traversal took more than {0:?}")]
    Timeout(Duration),
    /// A reference is not valid: the garbage collector was faster.
    #[error("{0} is not valid")]
    NotValid(StorePath),
    /// A reference is not `visible`.
    #[error("{0} is hidden")]
    Hidden(StorePath),
    /// A lookup failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Closure {
    /// Returns the total size of all NARs, in bytes.
    #[must_use]
    pub fn nar_size(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.nar_size))
    }

    /// Returns the `count` paths with the largest NARs, largest first.
    #[must_use]
    pub fn largest(&self, count: usize) -> Vec<&ClosureMember> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by(|a, b| b.nar_size.cmp(&a.nar_size).then_with(|| a.path.cmp(&b.path)));
        members.truncate(count);
        members
    }
}

impl Store {
    /// Traverses the closure of these paths up to the limits, omitting references that are not `visible`. Dropping the
    /// future may close a connection to nix-daemon.
    pub async fn closure(
        &self,
        roots: &[Arc<ValidPath>],
        limits: ClosureLimits,
        visible: impl Fn(&ValidPath) -> bool,
        client: ClientId,
    ) -> Closure {
        let mut walk = Walk::new(limits.paths);
        for root in roots {
            if walk.is_new(root.path.hash_part()) {
                walk.enter(root);
            }
        }
        let time = limits.time.unwrap_or(NO_TIME_LIMIT);
        let end = Instant::now() + time;
        while let Some(batch) = walk.next() {
            let results = if Instant::now() < end {
                timeout_at(end + GRACE, self.path_infos.valid_paths(&batch, client)).await.ok()
            } else {
                None
            };
            let Some(results) = results else {
                walk.mark_incomplete(Incomplete::Timeout(time));
                break;
            };
            for (path, result) in batch.into_iter().zip(results) {
                match result {
                    Ok(Some(valid)) if visible(&valid) => walk.enter(&valid),
                    Ok(Some(_)) => walk.mark_incomplete(Incomplete::Hidden(path)),
                    Ok(None) => walk.mark_incomplete(Incomplete::NotValid(path)),
                    Err(error) => {
                        let is_unavailable = error.is_unavailable();
                        walk.mark_incomplete(error.into());
                        if is_unavailable {
                            return walk.found;
                        }
                    }
                }
            }
            // If all were cached, nothing was awaited.
            tokio::task::yield_now().await;
        }
        walk.found
    }
}

/// A traversal in progress.
struct Walk {
    found: Closure,
    pending: VecDeque<StorePath>,
    /// All paths ever queued.
    seen: HashSet<HashPart>,
    max_paths: usize,
}

impl Walk {
    fn new(max_paths: usize) -> Self {
        let found = Closure { members: Vec::new(), incomplete: None };
        Self { found, pending: VecDeque::new(), seen: HashSet::new(), max_paths }
    }

    /// Returns whether a path is new and within the limit.
    fn is_new(&mut self, hash: HashPart) -> bool {
        if self.seen.contains(&hash) {
            return false;
        }
        if self.seen.len() >= self.max_paths {
            self.mark_incomplete(Incomplete::TooManyPaths(self.max_paths));
            return false;
        }
        self.seen.insert(hash)
    }

    fn enter(&mut self, valid: &ValidPath) {
        self.found.members.push(ClosureMember { path: valid.path.clone(), nar_size: valid.info.nar_size });
        for reference in valid.info.reference_paths() {
            if self.is_new(reference.hash_part()) {
                self.pending.push_back(reference);
            }
        }
    }

    fn next(&mut self) -> Option<Vec<StorePath>> {
        let length = self.pending.len().min(BATCH);
        (length > 0).then(|| self.pending.drain(..length).collect())
    }

    fn mark_incomplete(&mut self, why: Incomplete) {
        self.found.incomplete.get_or_insert(why);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::store::tests::numbered_paths::{Says, name, store_of};

    async fn closure_of(store: &Store, limits: ClosureLimits, visible: impl Fn(&ValidPath) -> bool) -> Closure {
        let hash = name(0)[..32].parse().unwrap();
        let root = store.valid_path(hash, ClientId::Server).await.unwrap().unwrap();
        store.closure(&[Arc::clone(&root), root], limits, visible, ClientId::Server).await
    }

    const WIDE: ClosureLimits = ClosureLimits { paths: 1000, time: Some(Duration::from_secs(60)) };

    #[tokio::test]
    async fn each_path_of_a_cyclic_graph_is_queried_and_found_once() {
        // Each refers to itself and to two children; the last ones refer to the first.
        let says = |number| {
            let children = [2 * number + 1, 2 * number + 2].map(|child| if child < 200 { child } else { 0 });
            Says::Valid([&[number][..], &children].concat())
        };
        let (_directory, store, queried) = store_of(says);
        let closure = closure_of(&store, WIDE, |_| true).await;
        assert!(closure.incomplete.is_none(), "{:?}", closure.incomplete);
        assert_eq!((closure.members.len(), queried.load(Ordering::Relaxed)), (200, 200));
        assert_eq!(closure.nar_size(), (0..200).map(|number| 120 + number).sum::<u64>());
        let largest: Vec<_> = closure.largest(2).iter().map(|member| member.nar_size).collect();
        assert_eq!(largest, [120 + 199, 120 + 198]);
        assert_eq!(closure.members[0].path.base_name(), name(0));
        closure_of(&store, WIDE, |_| true).await;
        assert_eq!(queried.load(Ordering::Relaxed), 200, "cached paths were queried");
    }

    #[tokio::test]
    async fn an_endless_closure_is_traversed_up_to_the_limit() {
        let (_directory, store, _) = store_of(|number| Says::Valid(vec![2 * number + 1, 2 * number + 2]));
        let closure = closure_of(&store, ClosureLimits { paths: 300, ..WIDE }, |_| true).await;
        assert!(matches!(closure.incomplete, Some(Incomplete::TooManyPaths(300))), "{:?}", closure.incomplete);
        assert_eq!(closure.members.len(), 300);
    }

    #[tokio::test]
    async fn invalid_and_hidden_paths_are_omitted_and_reported() {
        let says = |number| match number {
            0 => Says::Valid(vec![1, 2]),
            1 => Says::Invalid,
            2 => Says::Valid(vec![3]),
            _ => Says::Valid(Vec::new()),
        };
        let (_directory, store, _) = store_of(says);
        let closure = closure_of(&store, WIDE, |_| true).await;
        assert!(matches!(&closure.incomplete, Some(Incomplete::NotValid(path)) if path.base_name() == name(1)));
        assert_eq!(closure.members.len(), 3);
        let (_directory, store, _) = store_of(|number| Says::Valid(if number < 9 { vec![number + 1] } else { vec![] }));
        let closure = closure_of(&store, WIDE, |valid| valid.path.base_name() != name(2)).await;
        assert!(matches!(&closure.incomplete, Some(Incomplete::Hidden(path)) if path.base_name() == name(2)));
        assert_eq!(closure.members.len(), 2, "what is behind a hidden path was found");
    }

    #[tokio::test]
    async fn paths_found_before_nix_daemon_disconnects_are_returned() {
        let (_directory, store, _) =
            store_of(|number| if number < 5 { Says::Valid(vec![number + 1]) } else { Says::Goodbye });
        let closure = closure_of(&store, WIDE, |_| true).await;
        assert!(matches!(closure.incomplete, Some(Incomplete::Store(_))), "{:?}", closure.incomplete);
        assert_eq!(closure.members.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_nix_daemon_is_waited_for_up_to_the_time_limit() {
        let (_directory, store, _) =
            store_of(|number| if number < 5 { Says::Valid(vec![number + 1]) } else { Says::Nothing });
        let (begin, time) = (Instant::now(), Duration::from_millis(500));
        let closure = closure_of(&store, ClosureLimits { time: Some(time), ..WIDE }, |_| true).await;
        assert!(matches!(closure.incomplete, Some(Incomplete::Timeout(_))), "{:?}", closure.incomplete);
        assert_eq!(closure.members.len(), 5);
        assert!(begin.elapsed() <= time + GRACE + Duration::from_millis(10), "{:?}", begin.elapsed());
    }
}
