//! NARs verified since the start, which are not hashed again when they are read from the store's files.
//!
//! A NAR read from files is recorded as verified when size and hash match its path info, the path's stamp was the same
//! before and after reading, and no file was modified since it was indexed. An entry holds for a day, as long as path
//! info, stamp and modification times stay the same. A dump by nix-daemon is never recorded: it says nothing about the
//! files, nor about the next dump.
//!
//! Not noticed: a file in a directory that is overwritten in place and whose modification time is set back; and, for a
//! day, corruption by the disk. `verify = "always"` hashes every NAR.

use crate::sync::Mutex;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::{HashPart, StorePath};
use tokio::time::Instant;

use crate::clock_cache::ClockCache;
use crate::store::nar::expected::ExpectedNar;
use crate::store::nar::files::open::LastModified;
use crate::store::path_info::path_stamp::PathStamp;

/// Memory limit, in bytes: about 100,000 paths. The NAR of an evicted path is hashed again.
const MAX_BYTES: usize = 32 << 20;
/// Age after which a NAR is hashed again: nothing else detects corruption by the disk, and once a day is cheap.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Record of the verified NARs of one store.
#[derive(Debug)]
pub(crate) struct VerifiedNars {
    /// `None` if disabled.
    real_directory: Option<Arc<Path>>,
    entries: Mutex<ClockCache<HashPart, Entry>>,
}

#[derive(Debug)]
struct Entry {
    nar_hash: NarHash,
    nar_size: u64,
    stamp: PathStamp,
    modified: LastModified,
    since: Instant,
}

impl Entry {
    /// Returns whether the entry is for this NAR and stamp, and not too old.
    fn holds(&self, expected: &ExpectedNar, stamp: PathStamp) -> bool {
        let is_same = self.nar_hash == expected.nar_hash && self.nar_size == expected.nar_size && self.stamp == stamp;
        is_same && self.since.elapsed() < MAX_AGE
    }
}

impl VerifiedNars {
    /// Returns an empty record for the paths in `real_directory`.
    pub(crate) fn new(real_directory: &Path) -> Self {
        let entries = Mutex::new(ClockCache::new(MAX_BYTES));
        Self { real_directory: Some(real_directory.into()), entries }
    }

    /// Returns a record that stays empty and takes no stamps.
    pub(crate) fn disabled() -> Self {
        Self { real_directory: None, entries: Mutex::new(ClockCache::new(0)) }
    }

    /// Takes the stamp of a path, to be done before its NAR is read; `None` if the path is not visible here.
    pub(crate) fn stamp(&self, path: &StorePath) -> Option<PathStamp> {
        PathStamp::read(self.real_directory.as_ref()?, path)
    }

    /// Returns whether this NAR was verified at this stamp and with this last modification of a file.
    pub(crate) fn contains(&self, expected: &ExpectedNar, stamp: PathStamp, modified: LastModified) -> bool {
        let mut entries = self.entries();
        let entry = entries.find(&expected.path.hash_part());
        entry.is_some_and(|entry| entry.modified == modified && entry.holds(expected, stamp))
    }

    /// Returns whether this NAR was verified at this stamp. Modification times are checked when the files are opened.
    pub(crate) fn may_contain(&self, expected: &ExpectedNar, stamp: PathStamp) -> bool {
        self.entries().find(&expected.path.hash_part()).is_some_and(|entry| entry.holds(expected, stamp))
    }

    /// Records a verified NAR, unless the path's stamp is not `stamp` any more, which was taken before reading.
    pub(crate) fn add(&self, expected: &ExpectedNar, stamp: PathStamp, modified: LastModified) {
        if self.stamp(&expected.path) == Some(stamp) {
            let (nar_hash, nar_size) = (expected.nar_hash, expected.nar_size);
            let entry = Entry { nar_hash, nar_size, stamp, modified, since: Instant::now() };
            self.entries().insert(expected.path.hash_part(), entry, 0);
        }
    }

    /// Removes the entry of a path whose NAR failed.
    pub(crate) fn invalidate(&self, hash: HashPart) {
        self.entries().remove(&hash);
    }

    fn entries(&self) -> MutexGuard<'_, ClockCache<HashPart, Entry>> {
        self.entries.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const THEN: LastModified = LastModified::NEVER;

    fn expected() -> ExpectedNar {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-claimed").unwrap();
        ExpectedNar { path, nar_hash: NarHash::from_digest([1; 32]), nar_size: 120 }
    }

    /// Returns a store directory with that path, a record that has it as verified, and its stamp.
    fn verified() -> (tempfile::TempDir, VerifiedNars, PathStamp) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(expected().path.base_name()), "claimed").unwrap();
        let verified = VerifiedNars::new(directory.path());
        let stamp = verified.stamp(&expected().path).unwrap();
        verified.add(&expected(), stamp, THEN);
        (directory, verified, stamp)
    }

    #[test]
    fn an_entry_holds_for_the_same_hash_and_size() {
        let (_directory, verified, stamp) = verified();
        assert!(verified.contains(&expected(), stamp, THEN));
        assert!(!verified.contains(
            &ExpectedNar { nar_hash: NarHash::from_digest([2; 32]), ..expected() },
            stamp,
            THEN
        ));
        assert!(!verified.contains(&ExpectedNar { nar_size: 121, ..expected() }, stamp, THEN));
        verified.invalidate(expected().path.hash_part());
        assert!(!verified.contains(&expected(), stamp, THEN));
    }

    #[test]
    fn a_path_replaced_while_it_is_read_is_not_verified() {
        let (directory, verified, stamp) = verified();
        let other = directory.path().join("other");
        fs::write(&other, "claimed").unwrap();
        fs::rename(&other, directory.path().join(expected().path.base_name())).unwrap();
        let now = verified.stamp(&expected().path).unwrap();
        assert!(!verified.contains(&expected(), now, THEN));
        verified.invalidate(expected().path.hash_part());
        verified.add(&expected(), stamp, THEN);
        assert!(!verified.contains(&expected(), stamp, THEN) && !verified.contains(&expected(), now, THEN));
        verified.add(&expected(), now, THEN);
        assert!(verified.contains(&expected(), now, THEN));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_holds_for_a_day_and_for_unmodified_files() {
        let (_directory, verified, stamp) = verified();
        let later = LastModified::at(1);
        assert!(!verified.contains(&expected(), stamp, later) && verified.may_contain(&expected(), stamp));
        tokio::time::advance(MAX_AGE.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(verified.contains(&expected(), stamp, THEN));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!verified.contains(&expected(), stamp, THEN) && !verified.may_contain(&expected(), stamp));
    }

    #[test]
    fn a_disabled_record_stays_empty() {
        let (_directory, _, stamp) = verified();
        let disabled = VerifiedNars::disabled();
        assert_eq!(disabled.stamp(&expected().path), None);
        disabled.add(&expected(), stamp, THEN);
        assert!(!disabled.contains(&expected(), stamp, THEN));
    }
}
