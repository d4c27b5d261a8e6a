//! Paths whose content has turned out to be wrong: nobody is told of them until a dump proves them good again.
//!
//! Owns which paths these are and when they are looked at again. A path is held back by proof alone: the daemon called it
//! valid, and its NAR had another size, another hash or no structure. A daemon that is late, gone or refuses proves
//! nothing. What proves a path good is its whole NAR; whoever asks meanwhile is answered as if the path were not valid, and
//! goes to another cache or builds.
//!
//! Held back is what the daemon said of the path. If that changes, because the path is not valid any more or has another
//! hash, there is nothing to hold back. A store path that looks otherwise than before has perhaps been repaired: it is
//! looked at as soon as somebody asks for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harmonia_protocol::HashPart;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::proven::Claim;
use super::sighting::Sighting;
use super::{Step, Store, StoreError, ValidPath};
use crate::client::Client;
use crate::metrics::Metrics;

/// How long after it failed a path is looked at again; doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LAST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Beyond, a damaged store's paths are found out one request at a time, each of whose NARs still breaks off.
const MAX_PATHS: usize = 4096;
/// With nothing to look at, any time will do.
const FAR: Duration = Duration::from_secs(86_400);

/// The paths of one store that are held back.
#[derive(Debug)]
pub(super) struct HeldBack {
    real_directory: Arc<Path>,
    paths: Mutex<HashMap<HashPart, Suspect>>,
    /// How many there are, so that a request costs no lock while there are none.
    count: AtomicUsize,
    /// A path is due sooner than was thought.
    changed: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Suspect {
    claim: Claim,
    /// As it looked when it failed last.
    seen: Option<Sighting>,
    pause: Duration,
    due: Instant,
}

/// What another look at a path has shown.
enum Verdict {
    /// Its NAR is what the daemon says.
    Good,
    /// It is not.
    Wrong,
    /// The daemon does not say that any more.
    Void,
    /// There was no NAR to look at.
    Unknown(StoreError),
}

impl HeldBack {
    /// None yet, of the paths in this directory.
    pub(super) fn new(real_directory: &Path, metrics: &Arc<Metrics>) -> Self {
        Self {
            real_directory: real_directory.into(),
            paths: Mutex::default(),
            count: AtomicUsize::new(0),
            changed: Notify::new(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Takes note of why a NAR failed, and holds its path back if that is a proof against it.
    pub(super) fn consider(&self, claim: &Claim, why: &StoreError) {
        if !why.is_proof() {
            return;
        }
        let mut paths = self.paths();
        let hash = claim.path.hash_part();
        let is_known = paths.get(&hash).is_some_and(|suspect| suspect.claim == *claim);
        if is_known || paths.len() >= MAX_PATHS {
            return;
        }
        let seen = Sighting::of(&self.real_directory, &claim.path);
        let suspect = Suspect { claim: claim.clone(), seen, pause: FIRST_PAUSE, due: Instant::now() + FIRST_PAUSE };
        paths.insert(hash, suspect);
        self.counted(&paths);
        tracing::error!("{} is held back, 404 until its nar is right: {why}", claim.path);
        self.changed.notify_one();
    }

    /// Whether nobody is to be told of this path.
    pub(super) fn holds(&self, valid: &ValidPath) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut paths = self.paths();
        let hash = valid.path.hash_part();
        let Some(suspect) = paths.get_mut(&hash) else { return false };
        if suspect.claim != Claim::of(valid) {
            paths.remove(&hash);
            self.counted(&paths);
            return false;
        }
        let is_due = suspect.due <= Instant::now();
        if !is_due && Sighting::of(&self.real_directory, &valid.path) != suspect.seen {
            suspect.due = Instant::now();
            self.changed.notify_one();
        }
        true
    }

    /// Looks at paths again when they are due, one after the other, without an end.
    pub(super) async fn watch(&self, store: &Store) {
        loop {
            let next = self.next();
            let due = next.as_ref().map_or_else(|| Instant::now() + FAR, |(due, _)| *due);
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.changed.notified() => continue,
            }
            if let Some((_, claim)) = next {
                let seen = Sighting::of(&self.real_directory, &claim.path);
                let verdict = look(store, &claim).await;
                self.judge(&claim, seen, verdict);
            }
        }
    }

    /// The path that is due first.
    fn next(&self) -> Option<(Instant, Claim)> {
        let paths = self.paths();
        let next = paths.values().min_by_key(|suspect| suspect.due)?;
        Some((next.due, next.claim.clone()))
    }

    /// Takes note of what a look has shown, before which the path looked like `seen`.
    fn judge(&self, claim: &Claim, seen: Option<Sighting>, verdict: Verdict) {
        let mut paths = self.paths();
        let hash = claim.path.hash_part();
        let Some(suspect) = paths.get_mut(&hash).filter(|suspect| suspect.claim == *claim) else { return };
        let is_wrong = matches!(verdict, Verdict::Wrong);
        let freed = match verdict {
            Verdict::Good => Some("its nar is right"),
            Verdict::Void => Some("it is not valid, or another"),
            Verdict::Wrong => None,
            Verdict::Unknown(why) => {
                tracing::debug!("{} could not be looked at: {why}", claim.path);
                None
            }
        };
        if let Some(why) = freed {
            tracing::info!("{} is not held back any more: {why}", claim.path);
            paths.remove(&hash);
            return self.counted(&paths);
        }
        suspect.due = Instant::now();
        // Repaired during the look, perhaps: whoever asked meanwhile only saw that one was under way.
        if Sighting::of(&self.real_directory, &claim.path) != seen {
            return;
        }
        if is_wrong {
            suspect.pause = (suspect.pause * 2).min(LAST_PAUSE);
            suspect.seen = seen;
        }
        suspect.due += suspect.pause;
    }

    fn counted(&self, paths: &HashMap<HashPart, Suspect>) {
        self.count.store(paths.len(), Ordering::Relaxed);
        self.metrics.held_back(paths.len());
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<HashPart, Suspect>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the daemon what it says of a path now, and reads the whole NAR, unless that takes longer than the others may wait.
async fn look(store: &Store, claim: &Claim) -> Verdict {
    let read = tokio::time::timeout(LAST_PAUSE, read(store, claim)).await;
    match read.unwrap_or(Err(StoreError::Late(Step::NarBytes))) {
        Ok(verdict) => verdict,
        Err(why) if why.is_proof() => Verdict::Wrong,
        Err(why) => Verdict::Unknown(why),
    }
}

async fn read(store: &Store, claim: &Claim) -> Result<Verdict, StoreError> {
    let valid = store.infos.ask(claim.path.hash_part(), None, Client::Server).await?;
    let Some(valid) = valid.filter(|valid| Claim::of(valid) == *claim) else { return Ok(Verdict::Void) };
    let mut nar = store.nar_for_keeping(&valid, Client::Server).await?;
    while nar.chunk().await?.is_some() {}
    Ok(Verdict::Good)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use harmonia_protocol::StorePath;

    use super::super::tests::{HASH, valid};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn path() -> ValidPath {
        valid(StorePath::from_base_name(&format!("{HASH}-suspect")).unwrap())
    }

    fn wrong() -> StoreError {
        StoreError::WrongSize { path: path().path, expected: 120, found: 119 }
    }

    /// A store whose one path is held back.
    fn held_back() -> (tempfile::TempDir, HeldBack) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(path().path.base_name()), "").unwrap();
        let held_back = HeldBack::new(directory.path(), &Arc::default());
        held_back.consider(&Claim::of(&path()), &wrong());
        assert!(held_back.holds(&path()));
        (directory, held_back)
    }

    /// Time until the next look.
    fn pause(held_back: &HeldBack) -> Duration {
        held_back.next().unwrap().0 - Instant::now()
    }

    fn judge(held_back: &HeldBack, verdict: Verdict) {
        let seen = Sighting::of(&held_back.real_directory, &path().path);
        held_back.judge(&Claim::of(&path()), seen, verdict);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_grow_with_each_proof_up_to_an_hour_and_not_by_a_daemon_that_is_silent() {
        let (_directory, held_back) = held_back();
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(pause(&held_back), SECOND * 60 * minutes);
            judge(&held_back, Verdict::Unknown(StoreError::Late(Step::NarBytes)));
            assert_eq!(pause(&held_back), SECOND * 60 * minutes);
            judge(&held_back, Verdict::Wrong);
        }
        assert!(held_back.holds(&path()));
        judge(&held_back, Verdict::Good);
        assert!(!held_back.holds(&path()) && held_back.next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_looks_otherwise_is_looked_at_when_it_is_asked_for_and_once() {
        let (directory, held_back) = held_back();
        assert!(held_back.holds(&path()) && pause(&held_back) == FIRST_PAUSE);
        fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
        assert_eq!(pause(&held_back), FIRST_PAUSE);
        assert!(held_back.holds(&path()) && pause(&held_back).is_zero());
        judge(&held_back, Verdict::Wrong);
        assert!(held_back.holds(&path()) && pause(&held_back) == FIRST_PAUSE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_looks_otherwise_after_a_look_than_before_is_looked_at_again() {
        let (directory, held_back) = held_back();
        let before = Sighting::of(&held_back.real_directory, &path().path);
        fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
        for verdict in [Verdict::Wrong, Verdict::Unknown(StoreError::Changed(path().path))] {
            held_back.judge(&Claim::of(&path()), before, verdict);
            assert!(pause(&held_back).is_zero());
        }
        judge(&held_back, Verdict::Wrong);
        assert_eq!(pause(&held_back), FIRST_PAUSE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_daemon_says_otherwise_now_and_what_it_does_not_say_any_more_is_not_held_back() {
        let (_directory, held_back) = held_back();
        let mut other = path();
        other.info.nar_size += 8;
        assert!(!held_back.holds(&other) && !held_back.holds(&path()));
        held_back.consider(&Claim::of(&path()), &wrong());
        judge(&held_back, Verdict::Void);
        assert!(!held_back.holds(&path()));
    }

    #[tokio::test(start_paused = true)]
    async fn only_proofs_count_and_there_is_room_for_so_many() {
        let directory = tempfile::tempdir().unwrap();
        let held_back = HeldBack::new(directory.path(), &Arc::default());
        held_back.consider(&Claim::of(&path()), &StoreError::Late(Step::NarBytes));
        held_back.consider(&Claim::of(&path()), &StoreError::Client { message: String::new(), before_reply: false });
        assert!(!held_back.holds(&path()));
        for number in 0..=MAX_PATHS {
            let path = StorePath::from_base_name(&format!("{number:032}-suspect")).unwrap();
            held_back.consider(&Claim::of(&valid(path)), &wrong());
        }
        assert_eq!(held_back.count.load(Ordering::Relaxed), MAX_PATHS);
    }
}
