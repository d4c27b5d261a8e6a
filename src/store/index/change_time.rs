//! Change times of visible files in the store.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use harmonia_protocol::StorePath;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::store::error::StoreError;
use crate::store::files::regular_file::open_configured;

/// Resolution of change times, rounded up: two changes within some milliseconds may have the same.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Change time (ctime) of a file, which no user can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeTime {
    seconds: i64,
    nanoseconds: u32,
}

impl ChangeTime {
    #[cfg(test)]
    pub(crate) const fn at(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds }
    }

    /// Reads when an entry of the store directory was last added or removed; `None` if it is not visible. Blocks on the
    /// disk.
    pub(crate) fn of_store(directory: &Path) -> Result<Option<Self>, StoreError> {
        let changed = || match open_configured(directory)? {
            Some(store) => Self::of(&store, "", AtFlags::EMPTY_PATH),
            None => Ok(None),
        };
        changed().map_err(|cause| StoreError::file(directory, &cause))
    }

    /// Reads the change times of paths; `None` for those that do not exist. Blocks on the disk.
    pub(crate) fn of_paths(
        directory: &Path,
        paths: &[StorePath],
    ) -> Result<Vec<Result<Option<Self>, StoreError>>, StoreError> {
        let store = open_configured(directory).map_err(|cause| StoreError::file(directory, &cause))?;
        let changed = |path: &StorePath| match &store {
            Some(store) => Self::of(store, path.base_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|cause| StoreError::file(&directory.join(path.base_name()), &cause)),
            None => Ok(None),
        };
        Ok(paths.iter().map(changed).collect())
    }

    fn of(directory: impl std::os::fd::AsFd, name: &str, flags: AtFlags) -> io::Result<Option<Self>> {
        match rustix::fs::statx(directory, name, flags, StatxFlags::CTIME) {
            Ok(stat) => Ok(Some(Self { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether a change from `now` on will have another change time.
    pub(crate) fn is_past(self, now: SystemTime) -> bool {
        let since_epoch = u64::try_from(self.seconds).map(|seconds| Duration::new(seconds, self.nanoseconds));
        let then = since_epoch.ok().and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time));
        then.and_then(|then| now.duration_since(then).ok()).is_some_and(|age| age >= RESOLUTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path() -> StorePath {
        StorePath::from_base_name(&format!("{}-hello", "1".repeat(32))).unwrap()
    }

    fn of_path(store: &Path) -> Option<ChangeTime> {
        ChangeTime::of_paths(store, &[path()]).unwrap().remove(0).unwrap()
    }

    #[test]
    fn replacing_a_path_changes_its_change_time() {
        let store = tempfile::tempdir().unwrap();
        assert_eq!(of_path(store.path()), None);
        let root = store.path().join(path().base_name());
        symlink("/nonexistent", &root).unwrap();
        let changed = of_path(store.path());
        assert!(changed.is_some());
        assert_eq!(of_path(store.path()), changed);
        // File system timestamps have a resolution of a few milliseconds.
        let shows = (0..100_000).any(|n| {
            fs::remove_file(&root).unwrap();
            symlink(n.to_string(), &root).unwrap();
            of_path(store.path()) != changed
        });
        assert!(shows);
        fs::remove_file(&root).unwrap();
        assert_eq!(of_path(store.path()), None);
    }

    #[test]
    fn a_missing_store_is_not_visible() {
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join("file"), "").unwrap();
        for place in ["nowhere", "file/below"] {
            let directory = store.path().join(place);
            assert_eq!(ChangeTime::of_store(&directory).unwrap(), None);
            assert_eq!(of_path(&directory), None);
        }
        assert!(ChangeTime::of_store(store.path()).unwrap().is_some());
    }

    #[test]
    fn a_change_is_past_when_the_next_one_differs() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert!(ChangeTime::at(98, 999_999_999).is_past(now));
        assert!(ChangeTime::at(99, 0).is_past(now));
        for (seconds, nanoseconds) in [(99, 1), (100, 0), (101, 0), (i64::MAX, 0), (-1, 0)] {
            assert!(!ChangeTime::at(seconds, nanoseconds).is_past(now), "{seconds}.{nanoseconds}");
        }
    }
}
