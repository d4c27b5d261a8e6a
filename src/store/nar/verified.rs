//! Which NARs have been proven since the start, so that they need not be hashed again when they are read from the store's
//! files.
//!
//! Owns the one record of it. A NAR is proven when all of its bytes had the size and the hash of its path info, its store
//! path looked the same before they were read and after, and none of its files had been modified since it was looked
//! through. That holds for a day, while the path looks so, its files say so, and its info says the same. What a daemon dumps proves
//! nothing of the next dump: nobody sees what it reads. Where the store is not visible here nothing counts as proven.
//!
//! What does not show is a file that somebody with the right to overwrites in place, inside a path that is a directory, and
//! sets its time of modification back; and, for a day, what a disk changes by itself. `verify = "always"` is for those who
//! fear it.

use crate::sync::Mutex;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use harmonia_protocol::hash::NarHash;
use harmonia_protocol::{HashPart, StorePath};
use tokio::time::Instant;

use crate::clock_cache::ClockCache;
use crate::store::nar::expected::Claim;
use crate::store::nar::files::open::Modified;
use crate::store::path_info::path_stamp::Sighting;

/// For a hundred thousand paths, in bytes. One that is forgotten is hashed once more.
const MAX_BYTES: usize = 32 << 20;
/// How long a proof counts: a disk that changes by itself shows in nothing else, and a hash a day costs nobody anything.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What has been proven of the paths of one store.
#[derive(Debug)]
pub(crate) struct Proven {
    /// Nothing if nobody asks for proofs.
    real_directory: Option<Arc<Path>>,
    proofs: Mutex<ClockCache<HashPart, Proof>>,
}

#[derive(Debug)]
struct Proof {
    nar_hash: NarHash,
    nar_size: u64,
    seen: Sighting,
    modified: Modified,
    since: Instant,
}

impl Proof {
    /// Whether it is one of this, and not too old.
    fn holds(&self, claim: &Claim, seen: Sighting) -> bool {
        let is_same = self.nar_hash == claim.nar_hash && self.nar_size == claim.nar_size && self.seen == seen;
        is_same && self.since.elapsed() < LONGEST
    }
}

impl Proven {
    /// Nothing is proven yet, of the paths in this directory.
    pub(crate) fn new(real_directory: &Path) -> Self {
        let proofs = Mutex::new(ClockCache::new(MAX_BYTES));
        Self { real_directory: Some(real_directory.into()), proofs }
    }

    /// For when nobody asks: nothing ever is, and no file is looked at.
    pub(crate) fn nothing() -> Self {
        Self { real_directory: None, proofs: Mutex::new(ClockCache::new(0)) }
    }

    /// How a path looks now, to be taken before its NAR is read; nothing if it cannot be seen.
    pub(crate) fn look(&self, path: &StorePath) -> Option<Sighting> {
        Sighting::of(self.real_directory.as_ref()?, path)
    }

    /// Whether this has been proven of a path that looks so, the last of whose files was modified then.
    pub(crate) fn holds(&self, claim: &Claim, seen: Sighting, modified: Modified) -> bool {
        let mut proofs = self.proofs();
        let proof = proofs.find(&claim.path.hash_part());
        proof.is_some_and(|proof| proof.modified == modified && proof.holds(claim, seen))
    }

    /// The same, whenever its files were modified, which is found out when they are read.
    pub(crate) fn may_hold(&self, claim: &Claim, seen: Sighting) -> bool {
        self.proofs().find(&claim.path.hash_part()).is_some_and(|proof| proof.holds(claim, seen))
    }

    /// Takes note that this was proven of a path that looked so before its files were read, none of which had been modified
    /// later.
    pub(crate) fn add(&self, claim: &Claim, seen: Sighting, modified: Modified) {
        if self.look(&claim.path) == Some(seen) {
            let (nar_hash, nar_size) = (claim.nar_hash, claim.nar_size);
            let proof = Proof { nar_hash, nar_size, seen, modified, since: Instant::now() };
            self.proofs().insert(claim.path.hash_part(), proof, 0);
        }
    }

    /// Takes note that a NAR has failed.
    pub(crate) fn doubt(&self, hash: HashPart) {
        self.proofs().remove(&hash);
    }

    fn proofs(&self) -> MutexGuard<'_, ClockCache<HashPart, Proof>> {
        self.proofs.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const THEN: Modified = Modified::NEVER;

    fn claim() -> Claim {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-claimed").unwrap();
        Claim { path, nar_hash: NarHash::from_digest([1; 32]), nar_size: 120 }
    }

    /// A store with that path, its place, and what has been proven of it.
    fn proven() -> (tempfile::TempDir, Proven, Sighting) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(claim().path.base_name()), "claimed").unwrap();
        let proven = Proven::new(directory.path());
        let seen = proven.look(&claim().path).unwrap();
        proven.add(&claim(), seen, THEN);
        (directory, proven, seen)
    }

    #[test]
    fn a_proof_holds_for_the_same_claim_about_what_looks_the_same() {
        let (_directory, proven, seen) = proven();
        assert!(proven.holds(&claim(), seen, THEN));
        assert!(!proven.holds(&Claim { nar_hash: NarHash::from_digest([2; 32]), ..claim() }, seen, THEN));
        assert!(!proven.holds(&Claim { nar_size: 121, ..claim() }, seen, THEN));
        proven.doubt(claim().path.hash_part());
        assert!(!proven.holds(&claim(), seen, THEN));
    }

    #[test]
    fn what_was_replaced_while_it_was_read_is_not_proven() {
        let (directory, proven, seen) = proven();
        let other = directory.path().join("other");
        fs::write(&other, "claimed").unwrap();
        fs::rename(&other, directory.path().join(claim().path.base_name())).unwrap();
        let now = proven.look(&claim().path).unwrap();
        assert!(!proven.holds(&claim(), now, THEN));
        proven.doubt(claim().path.hash_part());
        proven.add(&claim(), seen, THEN);
        assert!(!proven.holds(&claim(), seen, THEN) && !proven.holds(&claim(), now, THEN));
        proven.add(&claim(), now, THEN);
        assert!(proven.holds(&claim(), now, THEN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_holds_for_a_day_and_for_files_that_nobody_wrote_to() {
        let (_directory, proven, seen) = proven();
        let later = Modified::at(1);
        assert!(!proven.holds(&claim(), seen, later) && proven.may_hold(&claim(), seen));
        tokio::time::advance(LONGEST.checked_sub(Duration::from_secs(1)).unwrap()).await;
        assert!(proven.holds(&claim(), seen, THEN));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!proven.holds(&claim(), seen, THEN) && !proven.may_hold(&claim(), seen));
    }

    #[test]
    fn nothing_is_proven_where_nobody_asks() {
        let (_directory, _, seen) = proven();
        let nothing = Proven::nothing();
        assert_eq!(nothing.look(&claim().path), None);
        nothing.add(&claim(), seen, THEN);
        assert!(!nothing.holds(&claim(), seen, THEN));
    }
}
