//! Debug info in directories. Lookups with a nix-daemon are tested in `tests/scripted/endpoints/debug_info.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

const ID: &str = "00d3adbeef00d3adbeef00d3adbeef00d3adbeef";

/// Returns a store directory and the name of a path for it.
fn store() -> (tempfile::TempDir, StorePath) {
    let directory = tempfile::tempdir().unwrap();
    let path = StorePath::from_base_name(&format!("{}-hello-debug", "1".repeat(32))).unwrap();
    (directory, path)
}

fn directory_of(store: &Path, path: &StorePath, byte: &str) -> PathBuf {
    let directory = store.join(path.base_name()).join("lib/debug/.build-id").join(byte);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn ids(store: &Path, path: &StorePath) -> Vec<String> {
    let found = build_ids(store, std::slice::from_ref(path)).unwrap().remove(0).unwrap().unwrap();
    let mut ids: Vec<_> = found.iter().map(|id| format!("{id:?}")).collect();
    ids.sort();
    ids
}

#[test]
fn only_regular_files_without_symlinks_are_debug_info() {
    let (store, path) = store();
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
    assert_eq!(ids(store.path(), &path), [ID]);
    assert!(has_debug_info(store.path(), &path, &ID.parse().unwrap()).unwrap());
    for id in ["0011111111", "0022222222", "0033333333", "77666666", &ID.replace("00", "66")] {
        assert!(!has_debug_info(store.path(), &path, &id.parse().unwrap()).unwrap(), "{id}");
    }
}

#[test]
fn symlinks_and_files_in_place_of_directories_are_ignored() {
    for place in ["", "/lib", "/lib/debug", "/lib/debug/.build-id", "/lib/debug/.build-id/00"] {
        let (store, path) = store();
        let directory = directory_of(store.path(), &path, &ID[..2]);
        fs::write(directory.join(format!("{}.debug", &ID[2..])), "").unwrap();
        assert_eq!(ids(store.path(), &path), [ID]);
        let place = store.path().join(format!("{path}{place}"));
        let moved = store.path().join("elsewhere");
        fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        assert_eq!(ids(store.path(), &path), Vec::<String>::new(), "{}", place.display());
        assert!(!has_debug_info(store.path(), &path, &ID.parse().unwrap()).unwrap(), "{}", place.display());
        fs::remove_file(&place).unwrap();
        fs::write(&place, "").unwrap();
        assert_eq!(ids(store.path(), &path), Vec::<String>::new(), "{}", place.display());
    }
}

#[test]
fn entries_examined_per_path_are_limited() {
    let (store, path) = store();
    let directory = directory_of(store.path(), &path, "00");
    for n in 0..20 {
        fs::write(directory.join(format!("{n:08x}.debug")), "").unwrap();
    }
    let root = fs::File::open(store.path()).unwrap().into();
    // The directory itself is one entry.
    for (max, found) in [(0, 0), (1, 0), (10, 9), (21, 20), (100, 20)] {
        assert_eq!(of_path(&root, &path, max).unwrap().len(), found);
    }
}

#[test]
fn a_missing_store_has_no_debug_info() {
    let (store, path) = store();
    let nowhere = store.path().join("nowhere");
    assert_eq!(build_ids(&nowhere, std::slice::from_ref(&path)).unwrap().remove(0).unwrap(), None);
    assert!(!has_debug_info(&nowhere, &path, &ID.parse().unwrap()).unwrap());
}
