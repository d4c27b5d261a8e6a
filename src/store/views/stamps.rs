//! Stamps of the directories that a resolution read. While they are unchanged, it would have the same result.
//!
//! An entry that is added, removed or renamed changes the change time of its directory, which no user can set. The clock of
//! file systems ticks every few milliseconds: a directory that changed within the last second could change again without
//! a trace, so its stamp proves nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Resolution of change times, rounded up.
const RESOLUTION: Duration = Duration::from_secs(1);
/// Upper bound of directories whose stamps are kept, at some hundred bytes each. With more, each scan resolves the roots.
const MAX_DIRECTORIES: usize = 4096;

/// Device, inode and change time of a directory; `None` if it cannot be read.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Stamps of all directories that a resolution read.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    directories: HashMap<PathBuf, Stamp>,
    is_volatile: bool,
}

impl Stamps {
    /// Records a directory, to be called before it is read. Its path must have no symlink. Blocks on the disk.
    pub(crate) fn record(&mut self, directory: &Path) {
        if self.is_volatile || self.directories.contains_key(directory) {
            return;
        }
        let stamp = read(directory);
        if self.directories.len() >= MAX_DIRECTORIES || stamp.is_some_and(|(.., s, ns)| !is_past(s, ns)) {
            self.mark_volatile();
            return;
        }
        self.directories.insert(directory.to_owned(), stamp);
    }

    /// Declares that the result may change without a trace.
    fn mark_volatile(&mut self) {
        self.is_volatile = true;
        self.directories = HashMap::new();
    }

    /// Returns whether the resolution would have the same result now. Blocks on the disk.
    pub(crate) fn hold(&self) -> bool {
        !self.is_volatile && self.directories.iter().all(|(directory, stamp)| read(directory) == *stamp)
    }
}

fn read(directory: &Path) -> Stamp {
    let metadata = fs::symlink_metadata(directory).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// Returns whether a change from now on will have another change time.
fn is_past(seconds: i64, nanoseconds: i64) -> bool {
    let then = match (u64::try_from(seconds), u32::try_from(nanoseconds)) {
        (Ok(seconds), Ok(nanoseconds)) => SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)),
        _ => None,
    };
    then.and_then(|then| SystemTime::now().duration_since(then).ok()).is_some_and(|age| age >= RESOLUTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_has_just_changed_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut stamps = Stamps::default();
        assert!(stamps.hold());
        stamps.record(directory.path());
        assert!(!stamps.hold());
        // It says so for good: what was recorded before it is of no use.
        stamps.record(Path::new("/"));
        assert!(!stamps.hold() && stamps.directories.is_empty());
    }

    #[test]
    fn an_old_directory_holds_until_it_changes() {
        // Nobody changes it while tests run.
        let old = Path::new("/proc/self/fdinfo/..");
        let mut stamps = Stamps::default();
        stamps.record(Path::new("/usr/bin"));
        assert!(stamps.hold());
        stamps.directories.insert(old.to_owned(), Some((0, 0, 0, 0)));
        assert!(!stamps.hold());
    }

    #[test]
    fn a_directory_that_appears_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let later = directory.path().join("later");
        let mut stamps = Stamps::default();
        stamps.record(&later);
        assert!(stamps.hold());
        fs::create_dir(&later).unwrap();
        assert!(!stamps.hold());
    }

    #[test]
    fn change_times_of_the_future_are_not_past() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seconds = i64::try_from(now.as_secs()).unwrap();
        assert!(is_past(seconds - 3, 0) && !is_past(seconds + 1, 0) && !is_past(-1, 0) && !is_past(i64::MAX, 0));
    }
}
