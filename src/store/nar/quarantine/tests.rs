//! Quarantine, suspicion, rechecks and release of paths.

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

/// Returns a store directory with one path, which is quarantined.
fn quarantine() -> (tempfile::TempDir, Quarantine) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(path().path.base_name()), "").unwrap();
    let quarantine = Quarantine::new(directory.path(), &Arc::default());
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert!(quarantine.contains(&path()));
    (directory, quarantine)
}

/// Returns the time until the next recheck.
fn backoff(quarantine: &Quarantine) -> Duration {
    quarantine.next().unwrap().0 - Instant::now()
}

fn record(quarantine: &Quarantine, result: &RecheckResult) {
    let stamp = PathStamp::read(&quarantine.real_directory, &path().path);
    quarantine.record(&ExpectedNar::from_valid_path(&path()), stamp, result);
}

#[tokio::test(start_paused = true)]
async fn rechecks_begin_at_once_and_back_off_up_to_an_hour() {
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
async fn backoff_does_not_grow_while_nix_daemon_does_not_respond() {
    let (_directory, quarantine) = quarantine();
    for _ in 0..3 {
        record(&quarantine, &RecheckResult::Failed(StoreError::Timeout(Deadline::NarBytes)));
        assert!(quarantine.contains(&path()) && backoff(&quarantine) == MIN_BACKOFF);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_with_another_stamp_is_rechecked_once_when_it_is_requested() {
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
async fn a_path_whose_stamp_changes_during_a_recheck_is_rechecked_again() {
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

/// Returns a store directory with one path, which is suspected for this reason.
fn suspected(why: &StoreError, origin: Origin) -> (tempfile::TempDir, Quarantine) {
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
async fn a_path_is_suspected_until_nix_daemon_fails_to_dump_it_too() {
    for (why, origin) in [(no_files(), Origin::Daemon), (wrong(), Origin::UnconfirmedFiles)] {
        let (_directory, quarantine) = suspected(&why, origin);
        record(&quarantine, &RecheckResult::Failed(StoreError::Timeout(Deadline::NarBytes)));
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &no_files(), Origin::Daemon);
        assert!(!quarantine.contains(&path()));
        record(&quarantine, &RecheckResult::Mismatch(no_files()));
        assert!(quarantine.contains(&path()));
        let (_directory, quarantine) = suspected(&why, origin);
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
        assert!(quarantine.contains(&path()), "nix-daemon dumped a NAR of another size");
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_refuted_if_they_are_unchanged_and_the_dump_is_right() {
    let good = |quarantine: &Quarantine, before| {
        quarantine.record(&ExpectedNar::from_valid_path(&path()), before, &RecheckResult::Verified)
    };
    let (directory, quarantine) = suspected(&wrong(), Origin::UnconfirmedFiles);
    let file = directory.path().join(path().path.base_name());
    let before = PathStamp::read(directory.path(), &path().path);
    assert!(good(&quarantine, before));
    assert!(!quarantine.is_suspected(&ExpectedNar::from_valid_path(&path())));
    // Repaired before the recheck, or during it.
    for _ in 0..2 {
        quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::UnconfirmedFiles);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(!good(&quarantine, before));
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "").unwrap();
    }
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &no_files(), Origin::Daemon);
    assert!(!good(&quarantine, PathStamp::read(directory.path(), &path().path)));
}

#[tokio::test(start_paused = true)]
async fn a_path_whose_path_info_changed_is_released() {
    let (_directory, quarantine) = quarantine();
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!quarantine.contains(&other) && !quarantine.contains(&path()));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    record(&quarantine, &RecheckResult::Obsolete);
    assert!(!quarantine.contains(&path()));
}

#[tokio::test(start_paused = true)]
async fn a_recheck_of_an_obsolete_path_info_quarantines_nothing() {
    let (_directory, quarantine) = quarantine();
    *quarantine.rechecking() = Some(ExpectedNar::from_valid_path(&path()));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert!(quarantine.contains(&path()), "a recheck that fails released the path");
    let mut other = path();
    other.info.nar_size += 8;
    assert!(!quarantine.contains(&other));
    quarantine.report(&ExpectedNar::from_valid_path(&path()), &wrong(), Origin::Daemon);
    assert_eq!(quarantine.all().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_mismatches_count_and_entries_are_limited() {
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
