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
fn quarantine() -> (tempfile::TempDir, Quarantine) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(path().path.base_name()), "").unwrap();
    let quarantine = Quarantine::new(directory.path(), &Arc::default());
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert!(quarantine.contains(&path()));
    (directory, quarantine)
}

/// Time until the next look.
fn backoff(quarantine: &Quarantine) -> Duration {
    quarantine.next().unwrap().0 - Instant::now()
}

fn record(quarantine: &Quarantine, result: &RecheckResult) {
    let seen = PathStamp::read(&quarantine.real_directory, &path().path);
    quarantine.record(&ExpectedNar::from_valid_path(&path()), seen, result);
}

#[tokio::test(start_paused = true)]
async fn a_path_is_looked_at_at_once_and_then_after_pauses_that_grow_up_to_an_hour() {
    let (_directory, quarantine) = quarantine();
    assert_eq!(backoff(&quarantine), Duration::ZERO);
    for exponent in 0..12 {
        record(&quarantine, &RecheckResult::Mismatch(wrong()));
        assert_eq!(backoff(&quarantine), SECOND * (1 << exponent));
    }
    for _ in 0..2 {
        record(&quarantine, &RecheckResult::Mismatch(wrong()));
        assert_eq!(backoff(&quarantine), MAX_BACKOFF);
    }
    assert!(quarantine.contains(&path()));
    record(&quarantine, &RecheckResult::Verified);
    assert!(!quarantine.contains(&path()) && quarantine.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_pauses_do_not_grow_by_a_daemon_that_is_silent() {
    let (_directory, quarantine) = quarantine();
    for _ in 0..3 {
        record(&quarantine, &RecheckResult::Failed(StoreError::Timeout(Deadline::NarBytes)));
        assert!(quarantine.contains(&path()) && backoff(&quarantine) == MIN_BACKOFF);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_looks_otherwise_is_looked_at_when_it_is_asked_for_and_once() {
    let (directory, quarantine) = quarantine();
    record(&quarantine, &RecheckResult::Mismatch(wrong()));
    assert!(quarantine.contains(&path()) && backoff(&quarantine) == MIN_BACKOFF);
    fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
    assert_eq!(backoff(&quarantine), MIN_BACKOFF);
    assert!(quarantine.contains(&path()) && backoff(&quarantine).is_zero());
    record(&quarantine, &RecheckResult::Mismatch(wrong()));
    assert!(quarantine.contains(&path()) && backoff(&quarantine) == MIN_BACKOFF * 2);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_looks_otherwise_after_a_look_than_before_is_looked_at_again() {
    let (directory, quarantine) = quarantine();
    record(&quarantine, &RecheckResult::Mismatch(wrong()));
    let before = PathStamp::read(&quarantine.real_directory, &path().path);
    fs::remove_file(directory.path().join(path().path.base_name())).unwrap();
    for result in [RecheckResult::Mismatch(wrong()), RecheckResult::Failed(StoreError::Changed(path().path))] {
        quarantine.record(&ExpectedNar::from_valid_path(&path()), before, &result);
        assert!(backoff(&quarantine).is_zero());
    }
    record(&quarantine, &RecheckResult::Mismatch(wrong()));
    assert_eq!(backoff(&quarantine), MIN_BACKOFF * 2);
}

/// A store whose one path is doubted for this reason.
fn doubted(why: &StoreError, origin: Origin) -> (tempfile::TempDir, Quarantine) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(path().path.base_name()), "").unwrap();
    let quarantine = Quarantine::new(directory.path(), &Arc::default());
    quarantine.report(&ExpectedNar::from_valid_path(&path()), why, origin);
    assert!(
        !quarantine.contains(&path())
            && quarantine.is_suspected(&ExpectedNar::from_valid_path(&path()))
            && backoff(&quarantine).is_zero()
    );
    (directory, quarantine)
}

fn no_files() -> StoreError {
    StoreError::NoFiles { path: path().path, message: "no such file or directory".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_so_is_doubted_until_the_daemon_has_failed_to_dump_the_path_as_well() {
    for (why, origin) in [(no_files(), Origin::Daemon), (wrong(), Origin::UnconfirmedFiles)] {
        let (_directory, quarantine) = doubted(&why, origin);
        record(&quarantine, &RecheckResult::Failed(StoreError::Timeout(Deadline::NarBytes)));
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &no_files(), Origin::Daemon);
        assert!(!quarantine.contains(&path()));
        record(&quarantine, &RecheckResult::Mismatch(no_files()));
        assert!(quarantine.contains(&path()));
        let (_directory, quarantine) = doubted(&why, origin);
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
        assert!(quarantine.contains(&path()), "the daemon has dumped something else");
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_to_blame_if_they_are_as_they_were_and_the_dump_is_right() {
    let good = |quarantine: &Quarantine, before| {
        quarantine.record(&ExpectedNar::from_valid_path(&path()), before, &RecheckResult::Verified)
    };
    let (directory, quarantine) = doubted(&wrong(), Origin::UnconfirmedFiles);
    let place = directory.path().join(path().path.base_name());
    let before = PathStamp::read(directory.path(), &path().path);
    assert!(good(&quarantine, before));
    assert!(!quarantine.is_suspected(&ExpectedNar::from_valid_path(&path())));
    // Repaired before the look, or during it.
    for _ in 0..2 {
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::UnconfirmedFiles);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(!good(&quarantine, before));
        fs::remove_dir(&place).unwrap();
        fs::write(&place, "").unwrap();
    }
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &no_files(), Origin::Daemon);
    assert!(!good(&quarantine, PathStamp::read(directory.path(), &path().path)));
}

#[tokio::test(start_paused = true)]
async fn what_the_daemon_says_otherwise_now_and_what_it_does_not_say_any_more_is_not_held_back() {
    let (_directory, quarantine) = quarantine();
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!quarantine.contains(&other) && !quarantine.contains(&path()));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    record(&quarantine, &RecheckResult::Obsolete);
    assert!(!quarantine.contains(&path()));
}

#[tokio::test(start_paused = true)]
async fn a_look_at_what_the_daemon_does_not_say_any_more_holds_nothing_back() {
    let (_directory, quarantine) = quarantine();
    *quarantine.rechecking() = Some(ExpectedNar::from_valid_path(&path()));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert!(quarantine.contains(&path()), "a look that fails has freed the path");
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!quarantine.contains(&other));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert_eq!(quarantine.all().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_proofs_count_and_there_is_room_for_so_many() {
    let directory = tempfile::tempdir().unwrap();
    let quarantine = Quarantine::new(directory.path(), &Arc::default());
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &StoreError::Timeout(Deadline::NarBytes), Origin::Daemon);
    let silent = StoreError::Client { message: String::new(), before_reply: false };
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &silent, Origin::Daemon);
    assert!(!quarantine.contains(&path()));
    for number in 0..=MAX_PATHS {
        let path = StorePath::from_base_name(&format!("{number:032}-suspect")).unwrap();
        quarantine.report(&ExpectedNar::from_valid_path(&valid(path)), &wrong(), Origin::Daemon);
    }
    assert_eq!(quarantine.count.load(Ordering::Relaxed), MAX_PATHS);
}
