//! When paths are held back, doubted, looked at again and freed.

use std::fs;

use harmonia_protocol::StorePath;

use super::*;
use crate::store::daemon::deadline::Deadline;
use crate::store::tests::{HASH, valid};

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
    held_back.consider(&Claim::of(&path()), &wrong(), Origin::Daemon);
    assert!(held_back.holds(&path()));
    (directory, held_back)
}

/// Time until the next look.
fn pause(held_back: &HeldBack) -> Duration {
    held_back.next().unwrap().0 - Instant::now()
}

fn judge(held_back: &HeldBack, verdict: &Verdict) {
    let seen = Sighting::of(&held_back.real_directory, &path().path);
    held_back.judge(&Claim::of(&path()), seen, verdict);
}

#[tokio::test(start_paused = true)]
async fn a_path_is_looked_at_at_once_and_then_after_pauses_that_grow_up_to_an_hour() {
    let (_directory, held_back) = held_back();
    assert_eq!(pause(&held_back), Duration::ZERO);
    for exponent in 0..12 {
        judge(&held_back, &Verdict::Wrong(wrong()));
        assert_eq!(pause(&held_back), SECOND * (1 << exponent));
    }
    for _ in 0..2 {
        judge(&held_back, &Verdict::Wrong(wrong()));
        assert_eq!(pause(&held_back), LAST_PAUSE);
    }
    assert!(held_back.holds(&path()));
    judge(&held_back, &Verdict::Good);
    assert!(!held_back.holds(&path()) && held_back.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_pauses_do_not_grow_by_a_daemon_that_is_silent() {
    let (_directory, held_back) = held_back();
    for _ in 0..3 {
        judge(&held_back, &Verdict::Unknown(StoreError::Timeout(Deadline::NarBytes)));
        assert!(held_back.holds(&path()) && pause(&held_back) == FIRST_PAUSE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_looks_otherwise_is_looked_at_when_it_is_asked_for_and_once() {
    let (directory, held_back) = held_back();
    judge(&held_back, &Verdict::Wrong(wrong()));
    assert!(held_back.holds(&path()) && pause(&held_back) == FIRST_PAUSE);
    fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
    assert_eq!(pause(&held_back), FIRST_PAUSE);
    assert!(held_back.holds(&path()) && pause(&held_back).is_zero());
    judge(&held_back, &Verdict::Wrong(wrong()));
    assert!(held_back.holds(&path()) && pause(&held_back) == FIRST_PAUSE * 2);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_looks_otherwise_after_a_look_than_before_is_looked_at_again() {
    let (directory, held_back) = held_back();
    judge(&held_back, &Verdict::Wrong(wrong()));
    let before = Sighting::of(&held_back.real_directory, &path().path);
    fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
    for verdict in [Verdict::Wrong(wrong()), Verdict::Unknown(StoreError::Changed(path().path))] {
        held_back.judge(&Claim::of(&path()), before, &verdict);
        assert!(pause(&held_back).is_zero());
    }
    judge(&held_back, &Verdict::Wrong(wrong()));
    assert_eq!(pause(&held_back), FIRST_PAUSE * 2);
}

/// A store whose one path is doubted for this reason.
fn doubted(why: &StoreError, origin: Origin) -> (tempfile::TempDir, HeldBack) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(path().path.base_name()), "").unwrap();
    let held_back = HeldBack::new(directory.path(), &Arc::default());
    held_back.consider(&Claim::of(&path()), why, origin);
    assert!(!held_back.holds(&path()) && held_back.suspects(&Claim::of(&path())) && pause(&held_back).is_zero());
    (directory, held_back)
}

fn no_files() -> StoreError {
    StoreError::NoFiles { path: path().path, message: "no such file or directory".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_so_is_doubted_until_the_daemon_has_failed_to_dump_the_path_as_well() {
    for (why, origin) in [(no_files(), Origin::Daemon), (wrong(), Origin::FilesInDoubt)] {
        let (_directory, held_back) = doubted(&why, origin);
        judge(&held_back, &Verdict::Unknown(StoreError::Timeout(Deadline::NarBytes)));
        held_back.consider(&Claim::of(&path()), &no_files(), Origin::Daemon);
        assert!(!held_back.holds(&path()));
        judge(&held_back, &Verdict::Wrong(no_files()));
        assert!(held_back.holds(&path()));
        let (_directory, held_back) = doubted(&why, origin);
        held_back.consider(&Claim::of(&path()), &wrong(), Origin::Daemon);
        assert!(held_back.holds(&path()), "the daemon has dumped something else");
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_to_blame_if_they_are_as_they_were_and_the_dump_is_right() {
    let good = |held_back: &HeldBack, before| held_back.judge(&Claim::of(&path()), before, &Verdict::Good);
    let (directory, held_back) = doubted(&wrong(), Origin::FilesInDoubt);
    let place = directory.path().join(path().path.base_name());
    let before = Sighting::of(directory.path(), &path().path);
    assert!(good(&held_back, before));
    assert!(!held_back.suspects(&Claim::of(&path())));
    // Repaired before the look, or during it.
    for _ in 0..2 {
        held_back.consider(&Claim::of(&path()), &wrong(), Origin::FilesInDoubt);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(!good(&held_back, before));
        fs::remove_dir(&place).unwrap();
        fs::write(&place, "").unwrap();
    }
    held_back.consider(&Claim::of(&path()), &no_files(), Origin::Daemon);
    assert!(!good(&held_back, Sighting::of(directory.path(), &path().path)));
}

#[tokio::test(start_paused = true)]
async fn what_the_daemon_says_otherwise_now_and_what_it_does_not_say_any_more_is_not_held_back() {
    let (_directory, held_back) = held_back();
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!held_back.holds(&other) && !held_back.holds(&path()));
    held_back.consider(&Claim::of(&path()), &wrong(), Origin::Daemon);
    judge(&held_back, &Verdict::Void);
    assert!(!held_back.holds(&path()));
}

#[tokio::test(start_paused = true)]
async fn a_look_at_what_the_daemon_does_not_say_any_more_holds_nothing_back() {
    let (_directory, held_back) = held_back();
    *held_back.looked_at() = Some(Claim::of(&path()));
    held_back.consider(&Claim::of(&path()), &wrong(), Origin::Daemon);
    assert!(held_back.holds(&path()), "a look that fails has freed the path");
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!held_back.holds(&other));
    held_back.consider(&Claim::of(&path()), &wrong(), Origin::Daemon);
    assert_eq!(held_back.all().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_proofs_count_and_there_is_room_for_so_many() {
    let directory = tempfile::tempdir().unwrap();
    let held_back = HeldBack::new(directory.path(), &Arc::default());
    held_back.consider(&Claim::of(&path()), &StoreError::Timeout(Deadline::NarBytes), Origin::Daemon);
    let silent = StoreError::Client { message: String::new(), before_reply: false };
    held_back.consider(&Claim::of(&path()), &silent, Origin::Daemon);
    assert!(!held_back.holds(&path()));
    for number in 0..=MAX_PATHS {
        let path = StorePath::from_base_name(&format!("{number:032}-suspect")).unwrap();
        held_back.consider(&Claim::of(&valid(path)), &wrong(), Origin::Daemon);
    }
    assert_eq!(held_back.count.load(Ordering::Relaxed), MAX_PATHS);
}
