//! Who has how much of the spool, and which files are complete. Touches no disk.
//!
//! A file counts with the space that it may need from before its first byte on. Each upload of a file, and each answer that it
//! is there already, is a claim on it: a narinfo will follow. Store paths with the same contents have one file, which goes when
//! the narinfo of each was accepted.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::SpoolError;
use super::owner::{Key, Owner};
use crate::config::PushConfig;

/// Time after which a file that nobody asks for is removed.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Unit in which file systems give space, in bytes.
const BLOCK: u64 = 4 << 10;
/// Limit on files, each of which takes an inode and 150 bytes of memory.
const MAX_FILES: usize = 128 << 10;
/// Limit on files of one owner: more than the closure of a desktop, whose NARs may all be uploaded before the first narinfo.
const MAX_FILES_OF_OWNER: usize = 64 << 10;

/// Limits on the spool, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolLimits {
    /// Limit on one file.
    pub(crate) file: u64,
    /// Limit on all files of one owner.
    pub(crate) owner: u64,
    /// Limit on all files.
    pub(crate) total: u64,
}

impl From<&PushConfig> for SpoolLimits {
    fn from(config: &PushConfig) -> Self {
        Self {
            file: config.max_nar_size.bytes(),
            owner: config.max_spool_size_per_principal.bytes(),
            total: config.max_spool_size.bytes(),
        }
    }
}

/// Space that is reserved or used.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) files: usize,
}

impl Used {
    const fn add(&mut self, bytes: u64, files: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.files = self.files.saturating_add(files);
    }

    const fn subtract(&mut self, bytes: u64, files: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.files = self.files.saturating_sub(files);
    }
}

#[derive(Debug)]
struct Entry {
    space: u64,
    claims: u32,
    used_at: Instant,
}

/// Space by owner, and complete files.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: SpoolLimits,
    used: Used,
    owners: HashMap<Owner, Used>,
    files: HashMap<Key, Entry>,
    /// Reserved bytes that are not on disk yet.
    unwritten: u64,
}

/// Returns the space that a file of this size takes, in bytes.
pub(super) const fn space(size: u64) -> u64 {
    match size.checked_next_multiple_of(BLOCK) {
        Some(0) => BLOCK,
        Some(space) => space,
        None => u64::MAX,
    }
}

impl Ledger {
    pub(super) fn new(limits: SpoolLimits) -> Self {
        Self { limits, used: Used::default(), owners: HashMap::new(), files: HashMap::new(), unwritten: 0 }
    }

    /// Replaces the limits. Files above them stay.
    pub(super) const fn set_limits(&mut self, limits: SpoolLimits) {
        self.limits = limits;
    }

    pub(super) const fn used(&self) -> Used {
        self.used
    }

    pub(super) const fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Checks that a file of this size may be here if there are no others.
    pub(super) fn check_size(&self, size: u64) -> Result<(), SpoolError> {
        let SpoolLimits { file, owner, total } = self.limits;
        for (key, limit, needed) in [
            ("push.max_nar_size", file, size),
            ("push.max_spool_size_per_principal", owner, space(size)),
            ("push.max_spool_size", total, space(size)),
        ] {
            if needed > limit {
                return Err(SpoolError::TooLarge { key, limit });
            }
        }
        Ok(())
    }

    /// Reserves space, for a new file or for more of one.
    pub(super) fn reserve(&mut self, owner: Owner, space: u64, files: usize) -> Result<(), SpoolError> {
        let mut of_owner = self.owners.get(&owner).copied().unwrap_or_default();
        of_owner.add(space, files);
        let mut all = self.used;
        all.add(space, files);
        if of_owner.bytes > self.limits.owner {
            return Err(SpoolError::OwnersSpace(self.limits.owner));
        }
        if all.bytes > self.limits.total {
            return Err(SpoolError::Space(self.limits.total));
        }
        if of_owner.files > MAX_FILES_OF_OWNER || all.files > MAX_FILES {
            return Err(SpoolError::TooManyFiles);
        }
        self.owners.insert(owner, of_owner);
        self.used = all;
        self.unwritten = self.unwritten.saturating_add(space);
        Ok(())
    }

    /// Records that reserved bytes are on disk, or that they will not come.
    pub(super) const fn written(&mut self, bytes: u64) {
        self.unwritten = self.unwritten.saturating_sub(bytes);
    }

    /// Frees space.
    pub(super) fn release(&mut self, owner: Owner, space: u64, files: usize) {
        self.used.subtract(space, files);
        if let Some(of_owner) = self.owners.get_mut(&owner) {
            of_owner.subtract(space, files);
            if *of_owner == Used::default() {
                self.owners.remove(&owner);
            }
        }
    }

    /// Adds a complete file, whose space was reserved. If the same one was there, its space is free again.
    pub(super) fn add(&mut self, key: Key, space: u64, now: Instant) {
        let claims = match self.files.remove(&key) {
            Some(old) => {
                self.release(key.owner, old.space, 1);
                old.claims.saturating_add(1)
            }
            None => 1,
        };
        self.files.insert(key, Entry { space, claims, used_at: now });
    }

    /// Claims a file, if it is there.
    pub(super) fn claim(&mut self, key: &Key, now: Instant) -> bool {
        let Some(entry) = self.files.get_mut(key) else { return false };
        (entry.claims, entry.used_at) = (entry.claims.saturating_add(1), now);
        true
    }

    /// Marks a file as used. Returns whether it is there.
    pub(super) fn touch(&mut self, key: &Key, now: Instant) -> bool {
        let Some(entry) = self.files.get_mut(key) else { return false };
        entry.used_at = now;
        true
    }

    /// Ends one claim. Returns whether it was the last, so that the file is to be removed.
    pub(super) fn end_claim(&mut self, key: &Key) -> bool {
        let Some(entry) = self.files.get_mut(key) else { return false };
        entry.claims = entry.claims.saturating_sub(1);
        if entry.claims > 0 {
            return false;
        }
        self.forget(key);
        true
    }

    /// Forgets a file, which is or will be removed.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.files.remove(key) {
            self.release(key.owner, entry.space, 1);
        }
    }

    /// Returns the files that nobody has asked for lately.
    pub(super) fn idle(&self, now: Instant) -> Vec<Key> {
        let is_idle = |entry: &Entry| now.saturating_duration_since(entry.used_at) >= IDLE;
        self.files.iter().filter(|(_, entry)| is_idle(entry)).map(|(key, _)| *key).collect()
    }

    /// Returns whether a file is idle.
    pub(super) fn is_idle(&self, key: &Key, now: Instant) -> bool {
        self.files.get(key).is_some_and(|entry| now.saturating_duration_since(entry.used_at) >= IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::FileHash;
    use super::*;

    const LIMITS: SpoolLimits = SpoolLimits { file: 30 << 10, owner: 40 << 10, total: 60 << 10 };

    fn key(owner: Owner, number: u8) -> Key {
        Key { owner, hash: FileHash::from_digest([number; 32]) }
    }

    #[test]
    fn nobody_takes_more_than_their_part_and_all_together_no_more_than_there_is() {
        let (mut ledger, alice, bob) = (Ledger::new(LIMITS), Owner::named("user:alice"), Owner::named("user:bob"));
        assert!(matches!(ledger.check_size(31 << 10), Err(SpoolError::TooLarge { key: "push.max_nar_size", .. })));
        ledger.check_size(30 << 10).unwrap();
        ledger.reserve(alice, 32 << 10, 1).unwrap();
        assert!(matches!(ledger.reserve(alice, 12 << 10, 1), Err(SpoolError::OwnersSpace(_))));
        ledger.reserve(alice, 8 << 10, 0).unwrap();
        assert!(matches!(ledger.reserve(bob, 24 << 10, 1), Err(SpoolError::Space(_))));
        ledger.reserve(bob, 20 << 10, 1).unwrap();
        ledger.release(alice, 40 << 10, 1);
        ledger.release(bob, 20 << 10, 1);
        assert_eq!((ledger.used(), ledger.owners.len()), (Used::default(), 0));
    }

    #[test]
    fn small_files_are_bounded_too() {
        assert_eq!([0, 1, BLOCK, BLOCK + 1, u64::MAX].map(space), [BLOCK, BLOCK, BLOCK, 2 * BLOCK, u64::MAX]);
        let mut ledger = Ledger::new(SpoolLimits { file: 1, owner: u64::MAX, total: u64::MAX });
        let owners = ["a", "b", "c"].map(Owner::named);
        for owner in owners {
            let most = if owner == owners[2] { 0 } else { MAX_FILES_OF_OWNER };
            (0..most).for_each(|_| ledger.reserve(owner, BLOCK, 1).unwrap());
            assert!(matches!(ledger.reserve(owner, BLOCK, 1), Err(SpoolError::TooManyFiles)));
        }
    }

    #[test]
    fn a_file_stays_until_each_of_its_narinfos_came() {
        let (mut ledger, now) = (Ledger::new(LIMITS), Instant::now());
        let key = key(Owner::named("user:alice"), 1);
        for _ in 0..2 {
            ledger.reserve(key.owner, BLOCK, 1).unwrap();
            ledger.add(key, BLOCK, now);
        }
        assert_eq!(ledger.used(), Used { bytes: BLOCK, files: 1 });
        assert!(ledger.claim(&key, now));
        assert!(!ledger.end_claim(&key) && !ledger.end_claim(&key) && ledger.touch(&key, now));
        assert!(ledger.end_claim(&key) && !ledger.end_claim(&key) && !ledger.claim(&key, now));
        assert_eq!(ledger.used(), Used::default());
    }

    #[test]
    fn a_file_that_nobody_asks_for_is_idle_after_an_hour() {
        let (mut ledger, now) = (Ledger::new(LIMITS), Instant::now());
        let alice = Owner::named("user:alice");
        for number in [1, 2] {
            ledger.reserve(alice, BLOCK, 1).unwrap();
            ledger.add(key(alice, number), BLOCK, now);
        }
        assert!(ledger.touch(&key(alice, 2), now + IDLE / 2));
        assert!(ledger.idle(now + IDLE / 2).is_empty());
        assert_eq!(ledger.idle(now + IDLE), [key(alice, 1)]);
    }
}
