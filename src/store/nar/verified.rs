//! NARs that were verified since the start, so that they need not be hashed again when they are read from the store's
//! files.
//!
//! A NAR is verified when its bytes matched size and hash of its path info, its store path had the same stamp before
//! and after, and no file was modified since it was indexed. That holds for a day, while stamp, modification times and
//! path info are the same. A dump of nix-daemon says nothing about the next one, and where the store is not visible
//! nothing counts as verified.
//!
//! Two changes remain undetected: a privileged user overwrites a file below a directory and resets its modification
//! time; and, for a day, corruption on the disk. Use `verify = "always"` against these.

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

/// Upper bound of memory, in bytes, for a hundred thousand paths. An evicted one is hashed once more.
const MAX_BYTES: usize = 32 << 20;
/// Time for which a verification counts. Corruption on the disk shows in nothing else, and hashing once a day is cheap.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Verified NARs of one store.
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
    seen: PathStamp,
    modified: LastModified,
    since: Instant,
}

impl Entry {
    /// Returns whether the entry is about this and not too old.
    fn holds(&self, expected: &ExpectedNar, seen: PathStamp) -> bool {
        let is_same = self.nar_hash == expected.nar_hash && self.nar_size == expected.nar_size && self.seen == seen;
        is_same && self.since.elapsed() < MAX_AGE
    }
}

impl VerifiedNars {
    /// Creates an empty record for the paths in this directory.
    pub(crate) fn new(real_directory: &Path) -> Self {
        let entries = Mutex::new(ClockCache::new(MAX_BYTES));
        Self { real_directory: Some(real_directory.into()), entries }
    }

    /// Creates a record that stays empty and reads no stamps.
    pub(crate) fn disabled() -> Self {
        Self { real_directory: None, entries: Mutex::new(ClockCache::new(0)) }
    }

    /// Reads the stamp of a path; `None` if it is not visible. To be read before the NAR.
    pub(crate) fn stamp(&self, path: &StorePath) -> Option<PathStamp> {
        PathStamp::read(self.real_directory.as_ref()?, path)
    }

    /// Returns whether this NAR was verified with this stamp and this last modification of its files.
    pub(crate) fn contains(&self, expected: &ExpectedNar, seen: PathStamp, modified: LastModified) -> bool {
        let mut entries = self.entries();
        let entry = entries.find(&expected.path.hash_part());
        entry.is_some_and(|entry| entry.modified == modified && entry.holds(expected, seen))
    }

    /// Returns whether this NAR was verified with this stamp, leaving the modification times to be compared when the
    /// files are read.
    pub(crate) fn may_contain(&self, expected: &ExpectedNar, seen: PathStamp) -> bool {
        self.entries().find(&expected.path.hash_part()).is_some_and(|entry| entry.holds(expected, seen))
    }

    /// Records that this NAR was verified with the stamp `seen`, if the path still has it, and no file was modified
    /// after `modified`.
    pub(crate) fn add(&self, expected: &ExpectedNar, seen: PathStamp, modified: LastModified) {
        if self.stamp(&expected.path) == Some(seen) {
            let (nar_hash, nar_size) = (expected.nar_hash, expected.nar_size);
            let entry = Entry { nar_hash, nar_size, seen, modified, since: Instant::now() };
            self.entries().insert(expected.path.hash_part(), entry, 0);
        }
    }

    /// Removes the record of a NAR that failed.
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

    /// A store with that path, its place, and what has been proven of it.
    fn verified() -> (tempfile::TempDir, VerifiedNars, PathStamp) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(expected().path.base_name()), "claimed").unwrap();
        let verified = VerifiedNars::new(directory.path());
        let seen = verified.stamp(&expected().path).unwrap();
        verified.add(&expected(), seen, THEN);
        (directory, verified, seen)
    }

    #[test]
    fn a_proof_holds_for_the_same_claim_about_what_looks_the_same() {
        let (_directory, verified, seen) = verified();
        assert!(verified.contains(&expected(), seen, THEN));
        assert!(!verified.contains(&ExpectedNar { nar_hash: NarHash::from_digest([2; 32]), ..expected() }, seen, THEN));
        assert!(!verified.contains(&ExpectedNar { nar_size: 121, ..expected() }, seen, THEN));
        verified.invalidate(expected().path.hash_part());
        assert!(!verified.contains(&expected(), seen, THEN));
    }

    #[test]
    fn what_was_replaced_while_it_was_read_is_not_proven() {
        let (directory, verified, seen) = verified();
        let other = directory.path().join("other");
        fs::write(&other, "claimed").unwrap();
        fs::rename(&other, directory.path().join(expected().path.base_name())).unwrap();
        let now = verified.stamp(&expected().path).unwrap();
        assert!(!verified.contains(&expected(), now, THEN));
        verified.invalidate(expected().path.hash_part());
        verified.add(&expected(), seen, THEN);
        assert!(!verified.contains(&expected(), seen, THEN) && !verified.contains(&expected(), now, THEN));
        verified.add(&expected(), now, THEN);
        assert!(verified.contains(&expected(), now, THEN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_holds_for_a_day_and_for_files_that_nobody_wrote_to() {
        let (_directory, verified, seen) = verified();
        let later = LastModified::at(1);
        assert!(!verified.contains(&expected(), seen, later) && verified.may_contain(&expected(), seen));
        tokio::time::advance(MAX_AGE.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(verified.contains(&expected(), seen, THEN));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!verified.contains(&expected(), seen, THEN) && !verified.may_contain(&expected(), seen));
    }

    #[test]
    fn nothing_is_proven_where_nobody_asks() {
        let (_directory, _, seen) = verified();
        let disabled = VerifiedNars::disabled();
        assert_eq!(disabled.stamp(&expected().path), None);
        disabled.add(&expected(), seen, THEN);
        assert!(!disabled.contains(&expected(), seen, THEN));
    }
}
