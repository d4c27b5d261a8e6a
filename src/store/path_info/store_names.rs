//! Hash parts of all names in the store directory: what has no name there is not valid, which saves a query of nix-daemon.
//!
//! On hosts with a bucket most requests are for paths that another host has, or none. A name appears before its path becomes valid,
//! and changes the directory's change time. So a set of the names, read when the directory had not changed for a second, is right for
//! as long as the change time is the same; otherwise nix-daemon decides. That holds for file systems of this machine only, and if the
//! directory is that of nix-daemon: the first time, each valid path has to be in it.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use harmonia_protocol::operation::QueryAllValidPaths;
use harmonia_protocol::{HashPart, StorePath};
use tokio::time::Instant;

use crate::fairness::ClientId;
use crate::store::daemon::pool::Pool;
use crate::sync::Mutex;

/// Resolution of change times, rounded up.
const RESOLUTION: Duration = Duration::from_secs(1);
/// Upper bound of names, of eight bytes each. A larger store has none of this.
const MAX_NAMES: usize = 4 << 20;
/// Pause after a reading, in times that it took, and at least: a store that changes all the time is read rarely.
const REST: u32 = 20;
const MIN_REST: Duration = Duration::from_secs(1);
/// File systems (statfs(2)) whose change times are those of this machine's kernel, and which nobody else changes: ext2 to 4, btrfs,
/// xfs, zfs, tmpfs, f2fs, bcachefs.
const LOCAL: [u32; 7] = [0xEF53, 0x9123_683E, 0x5846_5342, 0x2FC1_2FC1, 0x0102_1994, 0xF2F5_2010, 0xCA45_1A4E];

/// Names in a store directory.
#[derive(Debug)]
pub(crate) struct StoreNames {
    directory: Arc<Path>,
    known: ArcSwapOption<Names>,
    hasher: RandomState,
    reading: Mutex<Reading>,
}

/// The names at one change time of the directory.
#[derive(Debug)]
struct Names {
    stamp: Stamp,
    /// Hashes of the hash parts, ascending. One that is taken for another costs a query.
    hashes: Box<[u64]>,
}

#[derive(Debug, Default)]
struct Reading {
    is_running: bool,
    /// When the next one may begin; `None` before the first.
    rests_until: Option<Instant>,
    /// The directory is that of nix-daemon.
    is_checked: bool,
    /// It is not, or its file system does not tell what changes.
    is_useless: bool,
}

/// Device, inode and change time of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn read(directory: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(directory)?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), changed })
    }

    /// Returns whether a change from now on will have another change time.
    fn is_past(self) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let then = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
        then.and_then(|then| SystemTime::now().duration_since(then).ok()).is_some_and(|age| age >= RESOLUTION)
    }
}

impl StoreNames {
    /// Creates a value that knows nothing.
    pub(crate) fn new(directory: &Arc<Path>) -> Arc<Self> {
        Arc::new(Self {
            directory: Arc::clone(directory),
            known: ArcSwapOption::empty(),
            hasher: RandomState::new(),
            reading: Mutex::default(),
        })
    }

    /// Returns whether the store has no path with this hash part. `false` says nothing. Reads the stamp of the directory on the
    /// calling thread, which takes a microsecond; starts to read the names in the background if it has changed.
    pub(crate) fn lacks(self: &Arc<Self>, hash: HashPart, pool: &Arc<Pool>) -> bool {
        if let Some(names) = &*self.known.load() {
            if Stamp::read(&self.directory).is_ok_and(|stamp| stamp == names.stamp) {
                return names.hashes.binary_search(&self.hasher.hash_one(hash)).is_err();
            }
        }
        self.read_in_background(pool);
        false
    }

    fn read_in_background(self: &Arc<Self>, pool: &Arc<Pool>) {
        {
            let mut reading = self.reading.lock();
            let rests = reading.rests_until.is_some_and(|end| Instant::now() < end);
            if reading.is_running || reading.is_useless || rests {
                return;
            }
            reading.is_running = true;
        }
        let (this, pool) = (Arc::clone(self), Arc::clone(pool));
        tokio::spawn(async move {
            let began = Instant::now();
            let result = this.read(&pool).await;
            let mut reading = this.reading.lock();
            reading.is_running = false;
            reading.rests_until = Some(Instant::now() + (began.elapsed() * REST).max(MIN_REST));
            match result {
                Ok(Some(names)) => this.known.store(Some(Arc::new(names))),
                Ok(None) => {}
                Err(why) => {
                    reading.is_useless = true;
                    tracing::info!("each miss is a query of nix-daemon: {why}");
                }
            }
        });
    }

    /// Reads the names; `None` if that has to be tried again later. The error says why there is no use.
    async fn read(self: &Arc<Self>, pool: &Pool) -> Result<Option<Names>, String> {
        let this = Arc::clone(self);
        // It may have a million names, and wait for a disk.
        let names =
            tokio::task::spawn_blocking(move || this.check_file_system().and_then(|()| this.read_directory())).await;
        let Some(names) = names.map_err(|_| "reading the store directory failed".to_owned())?? else { return Ok(None) };
        if self.reading.lock().is_checked {
            return Ok(Some(names));
        }
        let Ok(valid) = pool.call(ClientId::Server, &QueryAllValidPaths).await else { return Ok(None) };
        // A path that was added since changes the stamp, which then proves nothing.
        if Stamp::read(&self.directory).ok() != Some(names.stamp) {
            return Ok(None);
        }
        self.check(&names, &valid)?;
        self.reading.lock().is_checked = true;
        Ok(Some(names))
    }

    /// Checks that each of these paths is in the directory.
    fn check(&self, names: &Names, valid: &[StorePath]) -> Result<(), String> {
        let is_named = |path: &StorePath| names.hashes.binary_search(&self.hasher.hash_one(path.hash_part())).is_ok();
        match valid.iter().find(|path| !is_named(path)) {
            Some(missing) => Err(format!("{} does not have the valid path {missing}", self.directory.display())),
            None => Ok(()),
        }
    }

    fn failed(&self, cause: &io::Error) -> String {
        format!("{} cannot be read: {cause}", self.directory.display())
    }

    fn check_file_system(&self) -> Result<(), String> {
        let file_system = rustix::fs::statfs(&*self.directory).map_err(|errno| self.failed(&errno.into()))?;
        // The type of the field differs between machines.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
        let is_local = LOCAL.contains(&(file_system.f_type as u32));
        is_local
            .then_some(())
            .ok_or_else(|| format!("the file system of {} may be changed elsewhere", self.directory.display()))
    }

    /// Reads the directory; `None` if it has changed within a second, or meanwhile.
    fn read_directory(&self) -> Result<Option<Names>, String> {
        let failed = |cause| self.failed(&cause);
        let stamp = Stamp::read(&self.directory).map_err(failed)?;
        if !stamp.is_past() {
            return Ok(None);
        }
        let mut hashes = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            if hashes.len() >= MAX_NAMES {
                return Err(format!("{} has more than {MAX_NAMES} names", self.directory.display()));
            }
            let name = entry.map_err(failed)?.file_name();
            // Whatever begins with a hash part counts, such as a lock: that costs a query at most.
            let hash =
                name.to_str().and_then(|name| name.get(..HashPart::LEN)).and_then(|it| HashPart::from_str(it).ok());
            hashes.extend(hash.map(|hash| self.hasher.hash_one(hash)));
        }
        hashes.sort_unstable();
        let is_unchanged = Stamp::read(&self.directory).is_ok_and(|after| after == stamp);
        Ok(is_unchanged.then(|| Names { stamp, hashes: hashes.into() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> HashPart {
        HashPart::from_str(&format!("{number:032}")).unwrap()
    }

    /// Reads the names when the directory has not changed for a second.
    fn read(names: &StoreNames) -> Names {
        loop {
            if let Some(read) = names.read_directory().unwrap() {
                return read;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pool() -> Arc<Pool> {
        let metrics = Arc::default();
        let address = crate::config::DaemonAddress::None;
        let dialer = crate::store::daemon::dialer::Dialer::new(
            address,
            harmonia_protocol::StoreDir::default(),
            Arc::clone(&metrics),
        );
        Arc::new(Pool::new(&dialer, 1, 1, metrics))
    }

    #[tokio::test]
    async fn only_what_has_no_name_in_an_unchanged_directory_is_missing_for_sure() {
        let directory = tempfile::tempdir().unwrap();
        for name in [format!("{}-a", hash(1).as_str()), format!("{}-b.lock", hash(2).as_str()), ".links".to_owned()] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let (names, pool) = (StoreNames::new(&directory.path().into()), pool());
        assert!(!names.lacks(hash(3), &pool), "before the first reading");
        names.known.store(Some(Arc::new(read(&names))));
        assert!(names.lacks(hash(3), &pool));
        assert!(!names.lacks(hash(1), &pool) && !names.lacks(hash(2), &pool));
        fs::write(directory.path().join(format!("{}-c", hash(3).as_str())), "").unwrap();
        assert!(!names.lacks(hash(3), &pool) && !names.lacks(hash(4), &pool), "changed since");
        assert!(names.read_directory().unwrap().is_none(), "may change again without a trace");
    }

    #[tokio::test]
    async fn a_directory_without_a_valid_path_is_that_of_another_store() {
        let directory = tempfile::tempdir().unwrap();
        let names = StoreNames::new(&directory.path().into());
        let read = read(&names);
        let path = |number| StorePath::from_base_name(&format!("{}-a", hash(number).as_str())).unwrap();
        assert!(names.check(&read, &[path(1)]).is_err());
        assert!(names.check(&read, &[]).is_ok());
    }
}
