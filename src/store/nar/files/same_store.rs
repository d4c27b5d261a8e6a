//! Whether the files that are visible here are those of the daemon's store.
//!
//! Nothing in the protocol tells: a socket may have been forwarded from another machine, and a directory may be a copy. So
//! it is found out by a NAR whose files have the hash that the daemon says. As one path of another store may have the very
//! files, what is read later is not trusted for that, but hashed; the first path whose files are wrong, while the
//! daemon's dump of it is right, ends it.

use crate::sync::Mutex;
use std::path::{Path, PathBuf};

use crate::store::error::StoreError;

/// Paths whose files are others than the daemon says before that is taken for an answer. The first one may be damaged.
const MISMATCHES: u8 = 3;

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing yet, but that so many paths had other files.
    Unknown(u8),
    /// They are.
    Same,
    /// They are not.
    Other,
}

/// The answer, as it is found out.
#[derive(Debug)]
pub(crate) struct SameStore {
    directory: PathBuf,
    standing: Mutex<Standing>,
}

impl SameStore {
    /// Nothing is known of the files in this directory.
    pub(crate) fn unknown(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), standing: Mutex::new(Standing::Unknown(0)) }
    }

    /// What is known now.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// The files of a path are what the daemon says.
    pub(crate) fn agrees(&self) {
        let mut standing = self.standing.lock();
        if matches!(*standing, Standing::Unknown(_)) {
            *standing = Standing::Same;
            tracing::info!("reading NARs from the files in {}", self.directory.display());
        }
    }

    /// The files of a path are not what the daemon says.
    pub(crate) fn differs(&self, why: &StoreError) {
        let mut standing = self.standing.lock();
        match *standing {
            Standing::Unknown(before) if before + 1 < MISMATCHES => *standing = Standing::Unknown(before + 1),
            Standing::Unknown(_) => self.give_up(&mut standing, why),
            Standing::Same | Standing::Other => {}
        }
    }

    /// The files of a path are not what the daemon says, and its dump is.
    pub(crate) fn is_refuted(&self, why: &dyn std::fmt::Display) {
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

    fn wrong() -> StoreError {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-other").unwrap();
        StoreError::WrongSize { path, expected: 1, found: 2 }
    }

    #[test]
    fn one_path_that_agrees_is_enough_and_one_that_differs_is_not() {
        let same = SameStore::unknown(Path::new("/s"));
        for _ in 1..MISMATCHES {
            same.differs(&wrong());
        }
        same.agrees();
        same.differs(&wrong());
        assert_eq!(same.standing(), Standing::Same);
        same.is_refuted(&"x");
        same.agrees();
        assert_eq!(same.standing(), Standing::Other);
    }

    #[test]
    fn some_that_differ_are_an_answer() {
        let same = SameStore::unknown(Path::new("/s"));
        for _ in 0..MISMATCHES {
            same.differs(&wrong());
        }
        same.agrees();
        assert_eq!(same.standing(), Standing::Other);
    }
}
