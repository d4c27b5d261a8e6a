//! Verification with real bcrypt, and a clock that is advanced only while everything waits for it.

use std::fs;

use tokio::time::{Duration, Instant, advance};

use super::*;
use crate::access::users::remembered::FRESH;
use crate::config::StoreDirectories;

struct Fixture {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    users: Users,
}

const SOMEBODY: &str = "192.0.2.1";
const SOMEBODY_ELSE: &str = "192.0.2.2";

fn line(name: &str, password: &str, cost: u32) -> String {
    format!("{name}:{}\n", PasswordHash::with_cost(password.as_bytes(), cost).unwrap())
}

fn right(name: &str) -> PasswordCheck {
    PasswordCheck::Right(name.into())
}

impl Fixture {
    /// Loads a users file with this text.
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("users"), text).unwrap();
        let metrics = Arc::new(Metrics::default());
        let (users, _) = Users::load(&file(&directory), &metrics).unwrap();
        Self { directory, metrics, users }
    }

    fn reload(&mut self, text: &str) {
        fs::write(self.directory.path().join("users"), text).unwrap();
        self.users = self.users.reload(&file(&self.directory)).unwrap().0;
    }

    async fn verify(&self, name: &str, password: &str) -> PasswordCheck {
        self.verify_from(SOMEBODY, name, password).await
    }

    async fn verify_from(&self, address: &str, name: &str, password: &str) -> PasswordCheck {
        self.users.verify(name, password.as_bytes(), Some(address.parse().unwrap())).await
    }

    /// Returns how many checks had this result.
    fn count(&self, result: &str) -> u64 {
        let text = self.metrics.render(crate::metrics::Exposition::Classic);
        let name = format!("harmonia_password_checks_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    fn counts(&self) -> [u64; 4] {
        ["right", "remembered", "wrong", "refused"].map(|result| self.count(result))
    }
}

fn file(directory: &tempfile::TempDir) -> UsersFile {
    UsersFile::new(&directory.path().join("users"), &StoreDirectories::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_password_is_right_for_its_user_alone_and_remembered_for_some_minutes() {
    let users = Fixture::new(&(line("alice", "of alice", 4) + &line("bob", "of bob", 4)));
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert_eq!(users.verify("bob", "of alice").await, PasswordCheck::Wrong);
    assert_eq!(users.verify("Alice", "of alice").await, PasswordCheck::Wrong);
    assert_eq!(users.verify("", "").await, PasswordCheck::Wrong);
    assert_eq!(users.counts(), [1, 1, 3, 0]);
    advance(FRESH).await;
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert_eq!(users.counts(), [2, 1, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn many_requests_with_one_password_are_one_check() {
    let users = Fixture::new(&line("alice", "of alice", 6));
    let checks = (0..200).map(|_| users.verify("alice", "of alice"));
    let results = join_all(checks).await;
    assert!(results.iter().all(|result| *result == right("alice")));
    assert_eq!((users.count("right"), users.count("refused")), (1, 0));
    assert!(users.users.checks.running.lock().is_empty() && users.users.checks.waiting.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_forgets_passwords_of_users_who_are_removed_or_changed() {
    let (alice, bob) = (line("alice", "of alice", 4), line("bob", "of bob", 4));
    let mut users = Fixture::new(&(alice.clone() + &bob));
    for (name, password) in [("alice", "of alice"), ("bob", "of bob")] {
        assert_eq!(users.verify(name, password).await, right(name));
    }
    users.reload(&(line("alice", "another", 4) + &bob));
    assert_eq!(users.verify("alice", "of alice").await, PasswordCheck::Wrong);
    assert_eq!(users.verify("bob", "of bob").await, right("bob"));
    assert_eq!(users.count("remembered"), 1, "that of bob is unchanged");
    users.reload(&bob);
    assert_eq!(users.verify("alice", "another").await, PasswordCheck::Wrong);
    users.reload(&(alice + &bob));
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert_eq!(users.count("remembered"), 1, "that of alice was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_file_with_an_error_changes_nothing() {
    let users = Fixture::new(&line("alice", "of alice", 4));
    fs::write(users.directory.path().join("users"), "alice:plain\n").unwrap();
    assert!(users.users.reload(&file(&users.directory)).is_err());
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_checked_against_a_hash_of_the_highest_cost() {
    let users = Fixture::new(&(line("alice", "of alice", 4) + &line("bob", "of bob", 6)));
    assert_eq!((users.users.nobody.hash.cost(), users.users.max_cost), (6, 6));
    assert_eq!(users.verify("carol", "of alice").await, PasswordCheck::Wrong);
    assert_eq!(users.count("wrong"), 1);
    let empty = Fixture::new("");
    assert_eq!((empty.users.len(), empty.verify("alice", "of alice").await), (0, PasswordCheck::Wrong));
}

#[tokio::test(start_paused = true)]
async fn guesses_from_one_address_are_made_one_after_the_other_with_pauses() {
    let users = Fixture::new(&line("alice", "of alice", 4));
    let begin = Instant::now();
    let guesses: Vec<_> = (0..20).map(|number| format!("guess {number}")).collect();
    let results = join_all(guesses.iter().map(|guess| users.verify("alice", guess))).await;
    assert!(results.iter().all(|result| *result == PasswordCheck::Wrong));
    // 3 at once, then pauses of 0.25, 0.5, 1, 2 and 4 s, and of 8 s.
    let least = Duration::from_millis(7750) + 11 * Duration::from_secs(8);
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    // Others are not slowed.
    let begin = Instant::now();
    assert_eq!(users.verify_from(SOMEBODY_ELSE, "alice", "of alice").await, right("alice"));
    assert!(begin.elapsed() < Duration::from_millis(250), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_has_logged_in_is_not_kept_out_by_guesses_from_the_same_address() {
    let users = Fixture::new(&line("alice", "of alice", 4));
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    let guesses: Vec<_> = (0..10).map(|number| format!("guess {number}")).collect();
    join_all(guesses.iter().map(|guess| users.verify("alice", guess))).await;
    let begin = Instant::now();
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    advance(FRESH).await;
    users.verify("alice", "one more guess").await;
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert!(begin.elapsed() < FRESH + Duration::from_millis(250), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_has_logged_in_needs_no_place_among_the_guesses_that_wait() {
    let users = Fixture::new(&line("alice", "of alice", 4));
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    advance(FRESH).await;
    let guesses: Vec<_> = (0..MAX_WAITING + 10).map(|number| format!("guess {number}")).collect();
    let all = join_all(guesses.iter().map(|guess| users.verify("alice", guess)));
    let again = async {
        // By then the guesses wait.
        while users.count("refused") == 0 {
            tokio::task::yield_now().await;
        }
        users.verify("alice", "of alice").await
    };
    tokio::select! {
        biased;
        _ = all => panic!("all guesses were made before"),
        result = again => assert_eq!(result, right("alice")),
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_checks_that_wait_is_limited_for_each_client() {
    let users = Fixture::new(&line("alice", "of alice", 4));
    let guesses: Vec<_> = (0..MAX_WAITING + 10).map(|number| format!("guess {number}")).collect();
    let results = join_all(guesses.iter().map(|guess| users.verify("alice", guess))).await;
    let refused = results.iter().filter(|result| **result == PasswordCheck::Refused).count();
    // One or the other ends before all have begun.
    assert!((1..=10).contains(&refused), "{refused}");
    assert_eq!(usize::try_from(users.count("refused")), Ok(refused));
    assert!(users.users.checks.running.lock().is_empty() && users.users.checks.waiting.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_check_leaves_nothing_behind() {
    let users = Fixture::new(&line("alice", "of alice", 8));
    let dropped = tokio::time::timeout(Duration::ZERO, users.verify("alice", "a guess")).await;
    assert!(dropped.is_err());
    assert!(users.users.checks.running.lock().is_empty() && users.users.checks.waiting.lock().is_empty());
    assert_eq!(users.verify("alice", "of alice").await, right("alice"));
    assert_eq!(users.count("wrong"), 1, "bcrypt had begun, so the guess counts");
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in running.iter_mut().filter(|(_, result)| result.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if running.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}
