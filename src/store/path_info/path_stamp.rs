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
        let metadata = fs::symlink_metadata(real_directory.join(path.base_name())).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }

    /// Reads the stamp of a path in an open store directory; `None` if it is not visible.
    pub(crate) fn read_at(store: impl AsFd, path: &StorePath) -> Option<Self> {
        let metadata = rustix::fs::statat(store, path.base_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let nanoseconds = i64::try_from(metadata.st_ctime_nsec).ok()?;
        Some(Self { device: metadata.st_dev, inode: metadata.st_ino, changed: (metadata.st_ctime, nanoseconds) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    fn path() -> StorePath {
        StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-path").unwrap()
    }

    /// Returns a store directory with one path, created by `make`, and that path's file.
    fn store(make: impl FnOnce(&Path)) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(path().base_name());
        make(&file);
        (directory, file)
    }

    /// Repeats a change until the stamp differs: the file system's clock ticks only every few milliseconds.
    fn changes_stamp(directory: &Path, mut change: impl FnMut()) -> bool {
        let before = PathStamp::read(directory, &path());
        (0..100_000).any(|_| {
            change();
            PathStamp::read(directory, &path()) != before
        })
    }

    #[test]
    fn an_unchanged_path_keeps_its_stamp_and_a_missing_one_has_none() {
        let (directory, file) = store(|file| fs::write(file, "x").unwrap());
        let stamp = PathStamp::read(directory.path(), &path());
        assert!(stamp.is_some() && fs::read(&file).is_ok());
        assert_eq!(PathStamp::read_at(fs::File::open(directory.path()).unwrap(), &path()), stamp);
        assert_eq!(PathStamp::read(directory.path(), &path()), stamp);
        fs::remove_file(&file).unwrap();
        assert_eq!(PathStamp::read(directory.path(), &path()), None);
        assert_eq!(PathStamp::read(Path::new("/nonexistent"), &path()), None);
    }

    #[test]
    fn another_inode_changes_the_stamp() {
        let (directory, file) = store(|file| fs::write(file, "x").unwrap());
        let before = PathStamp::read(directory.path(), &path()).unwrap();
        let other = directory.path().join("other");
        fs::write(&other, "x").unwrap();
        fs::rename(&other, &file).unwrap();
        let after = PathStamp::read(directory.path(), &path()).unwrap();
        assert!(after.inode != before.inode && after != before);
    }

    #[test]
    fn deletion_by_nix_changes_the_stamp() {
        let (directory, file) = store(|file| fs::create_dir(file).unwrap());
        let mut mode = 0o555;
        assert!(changes_stamp(directory.path(), || {
            mode ^= 0o200;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }));
        let mut count = 0;
        assert!(changes_stamp(directory.path(), || {
            count += 1;
            fs::write(file.join(count.to_string()), "").unwrap();
        }));
    }

    #[test]
    fn a_symlink_has_its_own_stamp() {
        let (directory, file) = store(|file| symlink("/nonexistent", file).unwrap());
        let before = PathStamp::read(directory.path(), &path());
        assert!(before.is_some());
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert_ne!(PathStamp::read(directory.path(), &path()), before);
    }

    #[test]
    fn stamps_compare_all_fields() {
        let stamp = PathStamp { device: 1, inode: 2, changed: (3, 4) };
        for other in [
            PathStamp { device: 9, ..stamp },
            PathStamp { inode: 9, ..stamp },
            PathStamp { changed: (9, 4), ..stamp },
            PathStamp { changed: (3, 9), ..stamp },
        ] {
            assert_ne!(stamp, other);
        }
    }
}
