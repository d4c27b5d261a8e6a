//! Detects whether the visible files are those of nix-daemon's store (`nar_source = "auto"`).
//!
//! The protocol does not tell: the socket may be forwarded from another machine, and the directory may be a copy. So
//! files are used once those of one path match its path info. As another store may contain that path too, further
//! paths are hashed as well, and files are no longer used after the first path whose files are wrong while nix-daemon's
//! dump is right.

use crate::sync::Mutex;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;

/// Number of paths whose files must differ before any match to give up on the files. A single one may be corrupt.
const MISMATCHES: u8 = 3;

/// State of the detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No path has matched; this many have differed.
    Unknown(u8),
    /// The files are those of nix-daemon's store.
    Same,
    /// The files are those of another store.
    Other,
}

/// Detector for one store directory.
#[derive(Debug)]
pub(crate) struct SameStore {
    directory: PathBuf,
    standing: Mutex<Standing>,
}

impl SameStore {
    /// Creates a detector for `directory` in the state [`Standing::Unknown`].
    pub(crate) fn unknown(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), standing: Mutex::new(Standing::Unknown(0)) }
    }

    /// Returns the state.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// Records that the files of a path match its path info.
    pub(crate) fn record_match(&self) {
        let mut standing = self.standing.lock();
        if matches!(*standing, Standing::Unknown(_)) {
            *standing = Standing::Same;
            tracing::info!("reading NARs from the files in {}", self.directory.display());
        }
    }

    /// Records that the files of a path do not match its path info, which decides only before the first match.
    pub(crate) fn record_difference(&self, why: &StoreError) {
        let mut standing = self.standing.lock();
        match *standing {
            Standing::Unknown(before) if before + 1 < MISMATCHES => *standing = Standing::Unknown(before + 1),
            Standing::Unknown(_) => self.give_up(&mut standing, why),
            Standing::Same | Standing::Other => {}
        }
    }

    /// Records that the files of a path differ while nix-daemon's dump matches: ends the use of files.
    pub(crate) fn refute(&self, why: &dyn std::fmt::Display) {
        self.give_up(&mut self.standing.lock(), why);
    }

    fn give_up(&self, standing: &mut Standing, why: &dyn std::fmt::Display) {
        if *standing != Standing::Other {
            *standing = Standing::Other;
            tracing::warn!(
                "reading NARs from nix-daemon, because the files in {} are not those of its store: {why}\n  help: set real_nix_store to its store directory on this machine, or nar_source = \"daemon\" if there is none",
                self.directory.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use harmonia_protocol::StorePath;

    use super::*;

    fn wrong_size() -> StoreError {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-other").unwrap();
        StoreError::WrongSize { path, expected: 1, found: 2 }
    }

    #[test]
    fn one_match_decides_and_one_difference_does_not() {
        let same = SameStore::unknown(Path::new("/s"));
        for _ in 1..MISMATCHES {
            same.record_difference(&wrong_size());
        }
        same.record_match();
        same.record_difference(&wrong_size());
        assert_eq!(same.standing(), Standing::Same);
        same.refute(&"x");
        same.record_match();
        assert_eq!(same.standing(), Standing::Other);
    }

    #[test]
    fn several_differences_without_a_match_decide() {
        let same = SameStore::unknown(Path::new("/s"));
        for _ in 0..MISMATCHES {
            same.record_difference(&wrong_size());
        }
        same.record_match();
        assert_eq!(same.standing(), Standing::Other);
    }
}
