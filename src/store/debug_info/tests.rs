//! What is found in directories, and what can be said when. The whole is tested with daemons, in `tests/debuginfo.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

const ID: &str = "00d3adbeef00d3adbeef00d3adbeef00d3adbeef";

/// A store directory with one path.
fn store() -> (tempfile::TempDir, StorePath, Files) {
    let directory = tempfile::tempdir().unwrap();
    let path = StorePath::from_base_name(&format!("{}-hello-debug", "1".repeat(32))).unwrap();
    let files = Files(directory.path().to_owned());
    (directory, path, files)
}

fn directory_of(store: &Path, path: &StorePath, byte: &str) -> PathBuf {
    let directory = store.join(path.base_name()).join("lib/debug/.build-id").join(byte);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn look(files: &Files, path: &StorePath, before: Option<Changed>) -> Look {
    files.look(&[(path.clone(), before)]).unwrap().remove(0).unwrap()
}

fn ids(files: &Files, path: &StorePath) -> Vec<String> {
    let Look::New(_, ids) = look(files, path, None) else { panic!("nothing new") };
    let mut ids: Vec<_> = ids.iter().map(|id| format!("{id:?}")).collect();
    ids.sort();
    ids
}

#[test]
fn only_regular_files_over_no_links_are_debug_info() {
    let (store, path, files) = store();
    let directory = directory_of(store.path(), &path, &ID[..2]);
    let real = directory.join(format!("{}.debug", &ID[2..]));
    fs::write(&real, "debug info").unwrap();
    symlink(&real, directory.join("11111111.debug")).unwrap();
    mknodat(CWD, directory.join("22222222.debug"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::create_dir(directory.join("33333333.debug")).unwrap();
    for name in ["44444444", "44444444.DEBUG", "4444444x.debug", "444444444.debug", "4.debug", ".debug"] {
        fs::write(directory.join(name), "").unwrap();
    }
    for byte in ["AB", "a", "abc", "xy"] {
        fs::write(directory_of(store.path(), &path, byte).join("55555555.debug"), "").unwrap();
    }
    symlink(&directory, directory.with_file_name("66")).unwrap();
    fs::write(directory.with_file_name("77"), "").unwrap();
    assert_eq!(ids(&files, &path), [ID]);
    assert!(files.have(&path, &ID.parse().unwrap()).unwrap());
    for id in ["0011111111", "0022222222", "0033333333", "77666666", &ID.replace("00", "66")] {
        assert!(!files.have(&path, &id.parse().unwrap()).unwrap(), "{id}");
    }
}

#[test]
fn links_and_files_in_place_of_directories_are_no_way_to_debug_info() {
    for place in ["", "/lib", "/lib/debug", "/lib/debug/.build-id", "/lib/debug/.build-id/00"] {
        let (store, path, files) = store();
        let directory = directory_of(store.path(), &path, &ID[..2]);
        fs::write(directory.join(format!("{}.debug", &ID[2..])), "").unwrap();
        assert_eq!(ids(&files, &path), [ID]);
        let place = store.path().join(format!("{path}{place}"));
        let moved = store.path().join("elsewhere");
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        assert_eq!(ids(&files, &path), Vec::<String>::new(), "{}", place.display());
        assert!(!files.have(&path, &ID.parse().unwrap()).unwrap(), "{}", place.display());
        fs::remove_file(&place).unwrap();
        fs::write(&place, "").unwrap();
        assert_eq!(ids(&files, &path), Vec::<String>::new(), "{}", place.display());
    }
}

#[test]
fn a_path_is_new_until_it_was_seen_and_when_another_has_taken_its_place() {
    let (store, path, files) = store();
    assert!(matches!(look(&files, &path, None), Look::Nothing));
    let root = store.path().join(path.base_name());
    fs::create_dir(&root).unwrap();
    let Look::New(changed, _) = look(&files, &path, None) else { panic!("nothing new") };
    assert!(matches!(look(&files, &path, Some(changed)), Look::Same));
    let before = Some(Changed::at(1, 0));
    assert!(matches!(look(&files, &path, before), Look::New(now, _) if now == changed));
    fs::remove_dir(&root).unwrap();
    assert!(matches!(look(&files, &path, Some(changed)), Look::Nothing));
}

#[test]
fn a_path_with_more_entries_than_are_looked_at_ends_the_look() {
    let (store, path, files) = store();
    let directory = directory_of(store.path(), &path, "00");
    for n in 0..20 {
        fs::write(directory.join(format!("{n:08x}.debug")), "").unwrap();
    }
    let root = fs::File::open(&files.0).unwrap().into();
    // One is the directory's own.
    for (max, found) in [(0, 0), (1, 0), (10, 9), (21, 20), (100, 20)] {
        assert_eq!(files::build_ids(&root, &path, max).unwrap().len(), found);
    }
}

#[test]
fn a_store_that_is_not_there_is_not_visible() {
    let (store, path, _) = store();
    for place in ["nowhere", "file/below"] {
        fs::write(store.path().join("file"), "").unwrap();
        let files = Files(store.path().join(place));
        assert_eq!(files.changed().unwrap(), None);
        assert!(!files.have(&path, &ID.parse().unwrap()).unwrap());
    }
}

#[test]
fn a_change_counts_as_past_when_the_next_will_be_told_from_it() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    assert!(Changed::at(98, 999_999_999).is_past(now));
    assert!(Changed::at(99, 0).is_past(now));
    for (seconds, nanoseconds) in [(99, 1), (100, 0), (101, 0), (i64::MAX, 0), (-1, 0)] {
        assert!(!Changed::at(seconds, nanoseconds).is_past(now), "{seconds}.{nanoseconds}");
    }
}

#[tokio::test]
async fn a_miss_is_certain_only_by_a_scan_of_all_that_there_is_now() {
    let (old, new) = (Changed::at(1, 0), Changed::at(2, 0));
    let began = Instant::now();
    let failed = || Err(StoreError::DebugInfoUnknown { seconds: 1 });
    let scans = |result| Scans { begun: 3, ended: 3, last: Some(Scan { began, result }) };
    let certain = |verdict: Option<Result<_, _>>| verdict.map(|result: Result<(), StoreError>| result.is_ok());
    // Asked before the scan began: whatever has changed since.
    assert_eq!(certain(scans(Ok(Some(old))).verdict(2, new, began)), Some(true));
    assert_eq!(certain(scans(Ok(None)).verdict(2, new, began)), Some(true));
    assert_eq!(certain(scans(failed()).verdict(2, old, began)), Some(false));
    // Asked later.
    assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began)), Some(true));
    assert_eq!(certain(scans(Ok(Some(old))).verdict(3, new, began)), None);
    assert_eq!(certain(scans(Ok(None)).verdict(3, old, began)), None);
    assert_eq!(certain(scans(failed()).verdict(3, old, began)), None);
    assert_eq!(certain(scans(Ok(Some(old))).verdict(3, old, began + MAX_AGE)), None);
    assert_eq!(certain(Scans::default().verdict(0, old, began)), None);
}
