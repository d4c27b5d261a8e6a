//! The directory of symlinks, each named by the hash part of the store path that it points to.
//!
//! The time of a symlink's last change is when its path was last pushed or asked for, so that nothing else has to be
//! remembered over a restart. nix-daemon forgets the root of a symlink that is gone. Everything here waits for the disk.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harmonia_protocol::HashPart;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::sync::Mutex;

/// Suffix of a symlink that is being made. No hash part contains it.
const UNFINISHED: &str = ".new";

/// A directory of symlinks.
#[derive(Debug)]
pub(crate) struct Links {
    directory: PathBuf,
    /// Locked while one symlink is made, renewed or removed, so that none is removed that was just renewed.
    changing: Mutex<()>,
}

impl Links {
    /// Creates no directory yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, changing: Mutex::default() }
    }

    /// Makes or renews the symlink of a path, and returns where it is.
    pub(crate) fn create(&self, hash: HashPart, target: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let link = self.link(hash);
        let _changing = self.changing.lock();
        match fs::read_link(&link) {
            Ok(found) if found == Path::new(target) => renew(&link)?,
            _ => {
                // Complete at once: nix-daemon never sees it point elsewhere.
                let unfinished = self.directory.join(format!("{hash}{UNFINISHED}"));
                match fs::remove_file(&unfinished) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                symlink(target, &unfinished)?;
                fs::rename(&unfinished, &link)?;
            }
        }
        Ok(link)
    }

    /// Renews the symlink of a path if there is one.
    pub(crate) fn renew(&self, hash: HashPart) -> io::Result<()> {
        let _changing = self.changing.lock();
        match renew(&self.link(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes the symlinks that were made and last renewed more than `length` before `now`, and returns their number.
    pub(crate) fn remove_older(&self, length: Duration, now: SystemTime) -> io::Result<usize> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut removed = 0;
        for entry in entries {
            let link = entry?.path();
            let _changing = self.changing.lock();
            let Ok(metadata) = fs::symlink_metadata(&link) else { continue };
            // A time in the future is of a clock that was wrong: young.
            let age = now.duration_since(metadata.modified()?).unwrap_or_default();
            if metadata.is_symlink() && age > length {
                fs::remove_file(&link)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn link(&self, hash: HashPart) -> PathBuf {
        self.directory.join(hash.to_string())
    }
}

/// Sets the time of a symlink's last change to now.
fn renew(link: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, link, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn hash() -> HashPart {
        "lq7lf2dg0c05ibn8r201m1cgdcj5i60a".parse().unwrap()
    }

    #[test]
    fn a_symlink_is_removed_once_it_is_old_and_kept_when_it_is_renewed() {
        let state = tempfile::tempdir().unwrap();
        let links = Links::new(state.path().join("pushed"));
        assert_eq!(links.remove_older(HOUR, SystemTime::now()).unwrap(), 0);
        links.renew(hash()).unwrap();
        let link = links.create(hash(), "/nix/store/x").unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/nix/store/x"));
        let long_ago = Timespec { tv_sec: 1, tv_nsec: 0 };
        let times = Timestamps { last_access: long_ago, last_modification: long_ago };
        let age = || utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        for renew in [0, 1] {
            age();
            if renew == 0 {
                links.renew(hash()).unwrap();
            } else {
                drop(links.create(hash(), "/nix/store/x").unwrap());
            }
            assert_eq!(links.remove_older(HOUR, SystemTime::now()).unwrap(), 0);
        }
        // A clock that goes back removes nothing.
        assert_eq!(links.remove_older(HOUR, SystemTime::UNIX_EPOCH).unwrap(), 0);
        assert_eq!(links.remove_older(HOUR, SystemTime::now() + 2 * HOUR).unwrap(), 1);
        assert!(fs::symlink_metadata(&link).is_err());
    }

    #[test]
    fn what_lies_in_the_place_of_a_symlink_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        let links = Links::new(state.path().to_owned());
        symlink("/elsewhere", state.path().join(hash().to_string())).unwrap();
        symlink("/elsewhere", state.path().join(format!("{}{UNFINISHED}", hash()))).unwrap();
        let link = links.create(hash(), "/nix/store/x").unwrap();
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/nix/store/x"));
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }
}
