//! Stamps of store paths, which show whether a path was deleted or replaced.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use harmonia_protocol::StorePath;
use rustix::fs::AtFlags;

/// Device, inode and change time of a visible store path.
///
/// If a stamp read before a query equals one read later, the path is the one that nix-daemon replied about: a path that
/// was deleted and added again has another inode or change time. The reverse does not hold: optimising the store
/// changes the stamp of a path that is a file (by its link count), which only costs a query.
///
/// Nix first invalidates a path in its database, and then renames it (up to 2.3) or starts deleting it, for which it
/// makes a directory writable. So for the time of a transaction an invalid path has its old stamp; a response already
/// on its way to the client would be as old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathStamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl PathStamp {
    /// Reads the stamp of a path; `None` if it is not visible.
    pub(crate) fn read(real_directory: &Path, path: &StorePath) -> Option<Self> {
        let seen = fs::symlink_metadata(real_directory.join(path.base_name())).ok()?;
        Some(Self { device: seen.dev(), inode: seen.ino(), changed: (seen.ctime(), seen.ctime_nsec()) })
    }

    /// Reads the stamp of a path in an open store directory.
    pub(crate) fn read_at(store: impl AsFd, path: &StorePath) -> Option<Self> {
        let seen = rustix::fs::statat(store, path.base_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let nanoseconds = i64::try_from(seen.st_ctime_nsec).ok()?;
        Some(Self { device: seen.st_dev, inode: seen.st_ino, changed: (seen.st_ctime, nanoseconds) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn path() -> StorePath {
        StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-seen").unwrap()
    }

    /// A store with one path, made by this.
    fn store(make: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join(path().base_name());
        make(&place);
        (directory, place)
    }

    /// Changes until the clock of the file system shows it: it ticks every few milliseconds.
    fn shows(directory: &Path, mut change: impl FnMut()) -> bool {
        let before = PathStamp::read(directory, &path());
        (0..100_000).any(|_| {
            change();
            PathStamp::read(directory, &path()) != before
        })
    }

    #[test]
    fn the_same_path_looks_the_same_and_an_absent_one_like_nothing() {
        let (directory, place) = store(|place| fs::write(place, "x").unwrap());
        let seen = PathStamp::read(directory.path(), &path());
        assert!(seen.is_some() && fs::read(&place).is_ok());
        assert_eq!(PathStamp::read_at(fs::File::open(directory.path()).unwrap(), &path()), seen);
        assert_eq!(PathStamp::read(directory.path(), &path()), seen);
        fs::remove_file(&place).unwrap();
        assert_eq!(PathStamp::read(directory.path(), &path()), None);
        assert_eq!(PathStamp::read(Path::new("/nonexistent"), &path()), None);
    }

    #[test]
    fn another_inode_is_noticed_though_name_size_and_time_are_the_same() {
        let (directory, place) = store(|place| fs::write(place, "x").unwrap());
        let before = PathStamp::read(directory.path(), &path()).unwrap();
        let other = directory.path().join("other");
        fs::write(&other, "x").unwrap();
        fs::rename(&other, &place).unwrap();
        let after = PathStamp::read(directory.path(), &path()).unwrap();
        assert!(after.inode != before.inode && after != before);
    }

    #[test]
    fn what_nix_does_to_a_path_that_it_deletes_is_noticed() {
        let (directory, place) = store(|place| fs::create_dir(place).unwrap());
        let mut mode = 0o555;
        assert!(shows(directory.path(), || {
            mode ^= 0o200;
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        }));
        let mut count = 0;
        assert!(shows(directory.path(), || {
            count += 1;
            fs::write(place.join(count.to_string()), "").unwrap();
        }));
    }

    #[test]
    fn a_link_is_looked_at_and_not_its_target() {
        let (directory, place) = store(|place| symlink("/nonexistent", place).unwrap());
        let before = PathStamp::read(directory.path(), &path());
        assert!(before.is_some());
        fs::remove_file(&place).unwrap();
        fs::write(&place, "").unwrap();
        assert_ne!(PathStamp::read(directory.path(), &path()), before);
    }

    #[test]
    fn each_part_counts() {
        let seen = PathStamp { device: 1, inode: 2, changed: (3, 4) };
        for other in [
            PathStamp { device: 9, ..seen },
            PathStamp { inode: 9, ..seen },
            PathStamp { changed: (9, 4), ..seen },
            PathStamp { changed: (3, 9), ..seen },
        ] {
            assert_ne!(seen, other);
        }
    }
}
