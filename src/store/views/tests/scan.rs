//! Views of a store of numbered paths, whose roots are symlinks in a directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harmonia_protocol::HashPart;

use crate::config::ViewConfig;
use crate::fairness::ClientId;
use crate::store::tests::numbered_paths::{Says, name, store_of};
use crate::store::views::registry::{BELIEVED, Wanted};
use crate::store::{Store, StoreError};

/// A store whose paths exist in its directory, and the directory of roots of each view.
struct Machine {
    _store: tempfile::TempDir,
    roots: tempfile::TempDir,
    store: Store,
    queried: Arc<AtomicUsize>,
}

impl Machine {
    fn new(views: &[&str], says: impl Fn(usize) -> Says + Send + Sync + 'static) -> Self {
        let (directory, store, queried) = store_of(says);
        let roots = tempfile::tempdir().unwrap();
        let machine = Self { _store: directory, roots, store, queried };
        for number in 0..30 {
            fs::write(machine.store.real_directory.join(name(number)), "").unwrap();
        }
        for view in views {
            fs::create_dir(machine.roots.path().join(view)).unwrap();
        }
        machine.store.replace_views(&machine.config(views));
        machine
    }

    fn config(&self, views: &[&str]) -> Vec<ViewConfig> {
        let of = |name: &&str| ViewConfig {
            name: (*name).to_owned(),
            roots: vec![format!("{}/{name}/*", self.roots.path().canonicalize().unwrap().display())],
        };
        views.iter().map(of).collect()
    }

    fn add(&self, view: &str, number: usize) {
        symlink(format!("/nix/store/{}", name(number)), self.roots.path().join(view).join(number.to_string())).unwrap();
    }

    fn remove(&self, view: &str, number: usize) {
        fs::remove_file(self.roots.path().join(view).join(number.to_string())).unwrap();
    }

    async fn shows(&self, views: &[&str], number: usize) -> Result<bool, StoreError> {
        let views: Vec<Arc<str>> = views.iter().map(|name| Arc::from(*name)).collect();
        self.store.is_in_view(hash(number), &views).await
    }

    async fn shown(&self, view: &str, among: std::ops::Range<usize>) -> Vec<usize> {
        let mut shown = Vec::new();
        for number in among {
            if self.shows(&[view], number).await.unwrap() {
                shown.push(number);
            }
        }
        shown
    }

    fn queried(&self) -> usize {
        self.queried.load(Ordering::Relaxed)
    }
}

fn hash(number: usize) -> HashPart {
    name(number)[..32].parse().unwrap()
}

/// Each path refers to the next two, up to 20.
fn chain(number: usize) -> Says {
    Says::Valid((number + 1..number + 3).filter(|next| *next < 20).collect())
}

#[tokio::test]
async fn a_view_is_the_closure_of_its_roots_and_nothing_is_queried_twice() {
    let machine = Machine::new(&["a", "b"], chain);
    assert_eq!(machine.shown("a", 0..30).await, [0; 0]);
    assert_eq!(machine.queried(), 0);
    // A new root shows at the first request.
    machine.add("a", 15);
    assert!(machine.shows(&["a"], 19).await.unwrap());
    assert_eq!(machine.shown("a", 0..30).await, [15, 16, 17, 18, 19]);
    assert_eq!(machine.queried(), 5);
    machine.add("b", 17);
    machine.add("b", 25);
    assert_eq!(machine.shown("b", 0..30).await, [17, 18, 19, 25]);
    assert_eq!(machine.queried(), 6);
    // The union of two views, and of one that does not exist.
    assert!(machine.shows(&["a", "b"], 25).await.unwrap() && machine.shows(&["b", "a"], 15).await.unwrap());
    assert!(!machine.shows(&["a", "b"], 3).await.unwrap() && !machine.shows(&["c"], 15).await.unwrap());
    assert!(!machine.shows(&[], 15).await.unwrap());
    assert_eq!(machine.queried(), 6);
}

#[tokio::test]
async fn a_removed_root_disappears_when_the_last_scan_is_too_old() {
    let machine = Machine::new(&["a"], chain);
    machine.add("a", 15);
    machine.add("a", 18);
    assert!(machine.shows(&["a"], 15).await.unwrap());
    machine.remove("a", 15);
    tokio::time::pause();
    tokio::time::advance(BELIEVED).await;
    tokio::time::resume();
    assert_eq!(machine.shown("a", 0..30).await, [18, 19]);
    // What is in no view is forgotten, so that it is queried again: it may be another path by then.
    assert_eq!((machine.store.views.read().len(), machine.queried()), (2, 5));
}

#[tokio::test]
async fn a_hit_near_its_end_starts_a_scan_for_the_next_one() {
    let machine = Machine::new(&["a"], chain);
    machine.add("a", 18);
    assert!(machine.shows(&["a"], 18).await.unwrap());
    let views: [Arc<str>; 1] = ["a".into()];
    let now = tokio::time::Instant::now();
    let known = |after| machine.store.is_known_in_view(hash(18), &views, now + after);
    assert!(known(Duration::ZERO) && known(Duration::from_secs(3)) && !known(BELIEVED));
    // The scan that the second one started.
    machine.store.rescan_views(&views).await.unwrap();
    assert!(machine.store.is_known_in_view(hash(18), &views, tokio::time::Instant::now()));
}

#[tokio::test]
async fn without_nix_daemon_a_miss_is_an_error_and_a_known_path_is_shown() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let machine =
        Machine::new(&["a"], move |number| if down.load(Ordering::Relaxed) { Says::Goodbye } else { chain(number) });
    machine.add("a", 15);
    assert!(machine.shows(&["a"], 19).await.unwrap());
    is_down.store(true, Ordering::Relaxed);
    // Everything is known: nothing is queried.
    assert!(!machine.shows(&["a"], 3).await.unwrap());
    machine.add("a", 25);
    assert!(machine.shows(&["a"], 19).await.unwrap() && machine.shows(&["a"], 25).await.unwrap());
    let error = machine.shows(&["a"], 3).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    is_down.store(false, Ordering::Relaxed);
    assert!(!machine.shows(&["a"], 3).await.unwrap());
}

#[tokio::test]
async fn a_root_that_is_not_valid_hides_nothing_else() {
    let machine = Machine::new(&["a"], |number| if number == 25 { Says::Invalid } else { chain(number) });
    machine.add("a", 25);
    machine.add("a", 18);
    machine.add("a", 99);
    assert_eq!(machine.shown("a", 0..30).await, [18, 19, 25]);
    // It is shown, but there is no such path.
    assert!(machine.store.valid_path(hash(25), ClientId::Server).await.unwrap().is_none());
}

#[tokio::test]
async fn references_that_have_changed_are_corrected_by_the_next_query() {
    let is_new = Arc::new(AtomicBool::new(false));
    let new = Arc::clone(&is_new);
    let machine = Machine::new(&["a"], move |number| match number {
        18 if new.load(Ordering::Relaxed) => Says::Valid(vec![25]),
        18 => Says::Valid(vec![19]),
        _ => Says::Valid(Vec::new()),
    });
    machine.add("a", 18);
    assert_eq!(machine.shown("a", 0..30).await, [18, 19]);
    is_new.store(true, Ordering::Relaxed);
    machine.store.fresh_path_status(hash(18), ClientId::Server).await.unwrap();
    assert!(machine.shows(&["a"], 25).await.unwrap());
    assert_eq!(machine.shown("a", 0..30).await, [18, 25]);
}

#[tokio::test]
async fn replaced_views_keep_what_is_known_if_their_roots_are_the_same() {
    let machine = Machine::new(&["a", "b"], chain);
    machine.add("a", 18);
    machine.add("b", 25);
    assert!(machine.shows(&["a"], 19).await.unwrap() && machine.shows(&["b"], 25).await.unwrap());
    machine.store.replace_views(&machine.config(&["a"]));
    assert!(machine.shows(&["a"], 19).await.unwrap() && !machine.shows(&["b"], 25).await.unwrap());
    assert_eq!(machine.queried(), 3);
    // Scans may be running, at the end of which the rest is removed.
    let views: [Arc<str>; 1] = ["a".into()];
    while machine.store.views.read().len() > 2 {
        machine.store.rescan_views(&views).await.unwrap();
        tokio::task::yield_now().await;
    }
    machine.store.replace_views(&[]);
    assert_eq!(machine.store.views.read().len(), 0);
}

#[tokio::test]
async fn references_of_a_root_that_becomes_valid_later_are_shown() {
    let is_valid = Arc::new(AtomicBool::new(false));
    let valid = Arc::clone(&is_valid);
    let machine = Machine::new(&["a"], move |number| match number {
        18 if !valid.load(Ordering::Relaxed) => Says::Invalid,
        number => chain(number),
    });
    // As while a path is copied into the store: its files and its root are there before it is valid.
    machine.add("a", 18);
    let resolved = machine.config(&["a"]);
    assert_eq!(machine.shown("a", 0..30).await, [18]);
    is_valid.store(true, Ordering::Relaxed);
    assert!(machine.shows(&["a"], 19).await.unwrap());
    assert_eq!(machine.store.count_roots(&resolved[0]).0, 1);
}

#[tokio::test]
async fn a_flood_of_requests_for_what_is_in_no_view_shares_scans_and_queries_nothing() {
    let machine = Machine::new(&["a"], chain);
    machine.add("a", 15);
    assert!(machine.shows(&["a"], 19).await.unwrap());
    let begun = || machine.store.views.view("a").unwrap().progress.borrow().begun;
    let (before, queried) = (begun(), machine.queried());
    let mut requests = tokio::task::JoinSet::new();
    for number in 100..1100 {
        let views = Arc::clone(&machine.store.views);
        requests.spawn(async move { views.shows(Wanted::Path(hash(number)), &["a".into()]).await });
    }
    for shown in requests.join_all().await {
        assert!(!shown.unwrap());
    }
    // One may run already when the first request comes, and the last one needs another than the first.
    assert!(begun() - before <= 3, "{} scans", begun() - before);
    assert_eq!(machine.queried(), queried);
}

#[tokio::test]
async fn a_view_rests_between_scans_and_who_waits_gets_the_next_one() {
    let machine = Machine::new(&["a"], chain);
    machine.add("a", 15);
    assert!(machine.shows(&["a"], 19).await.unwrap());
    let view = machine.store.views.view("a").unwrap();
    tokio::time::pause();
    let (now, rest) = (tokio::time::Instant::now(), Duration::from_millis(500));
    *view.rests_until.lock() = Some(now + rest);
    let before = view.progress.borrow().begun;
    let (one, other) = tokio::join!(machine.shows(&["a"], 3), machine.shows(&["a"], 4));
    assert!(!one.unwrap() && !other.unwrap());
    assert!(now.elapsed() >= rest && view.progress.borrow().begun == before + 1);
}

#[tokio::test]
async fn views_that_are_scanned_for_the_first_time_together_learn_from_each_other() {
    let names: Vec<_> = (0..40).map(|number| format!("view-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let machine = Machine::new(&[], chain);
    for view in &names {
        fs::create_dir(machine.roots.path().join(view)).unwrap();
        machine.add(view, 10);
    }
    machine.store.replace_views(&machine.config(&names));
    for view in &names {
        assert!(machine.shows(&[view], 19).await.unwrap());
    }
    // Four of them query at once.
    assert!(machine.queried() < 40, "{} queries of 10 paths", machine.queried());
}
