//! The directory of the spool. Files are written and removed only in one that bears harmonia's mark.
//!
//! The mark is a file, as in the NAR cache's directory: a state directory that was set to, say, `/var` must not make harmonia
//! empty `/var/spool`. It is locked, so that a second process does not remove what the first one writes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::owner::{FileHash, Key, Owner};

/// Name of the mark.
const MARK: &str = "CACHEDIR.TAG";
/// Contents of the mark: that of the Cache Directory Tagging Specification (<https://bford.info/cachedir/>), so that backups
/// skip the directory, and a line that tells harmonia's from others.
const MARK_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55
# Unfinished uploads to harmonia, which removes files here.
";
/// Extension of temporary files.
const TEMP_EXTENSION: &str = ".part";
/// Extension of complete files.
const EXTENSION: &str = ".nar";
/// Mode bits that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A reason why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolDirectoryError {
    /// A system call failed.
    #[error("cannot use {} for uploads: {cause}\n  help: make the state directory writable for this user (StateDirectory= in the unit)", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// It has files of somebody else.
    #[error("cannot use {} for uploads: it has files but no {MARK} of harmonia\n  help: set state_dir to a directory that only harmonia uses", .0.display())]
    NotOurs(PathBuf),
    /// Others could replace files in it.
    #[error("cannot use {} for uploads: other users can write to it, or it is not a directory\n  help: set state_dir to a directory that only harmonia uses", .0.display())]
    Public(PathBuf),
    /// Another process has locked it.
    #[error("cannot use {} for uploads: another harmonia process uses it\n  help: stop that process, or give each a different state_dir", .0.display())]
    Locked(PathBuf),
}

impl SpoolDirectoryError {
    /// Returns whether the configuration must name another directory, since this one is not harmonia's to use.
    #[must_use]
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::NotOurs(_) | Self::Public(_))
    }
}

/// The directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct SpoolDirectory {
    path: PathBuf,
    _lock: File,
}

impl SpoolDirectory {
    /// Creates the directory or takes over an existing one, and removes all files that an earlier process left.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolDirectoryError> {
        let failed = |cause| SpoolDirectoryError::Io { path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let metadata = path.symlink_metadata().map_err(failed)?;
        let is_private =
            metadata.mode() & WRITABLE_BY_OTHERS == 0 && metadata.uid() == rustix::process::geteuid().as_raw();
        if !metadata.is_dir() || !is_private {
            return Err(SpoolDirectoryError::Public(path.to_owned()));
        }
        let lock = match open_mark(path).map_err(failed)? {
            Some(mark) => mark,
            None if is_empty(path).map_err(failed)? => write_mark(path).map_err(failed)?,
            None => return Err(SpoolDirectoryError::NotOurs(path.to_owned())),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(SpoolDirectoryError::Locked(path.to_owned())),
            Err(cause) => return Err(failed(cause.into())),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.remove_leftovers().map_err(failed)?;
        Ok(directory)
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a complete file.
    pub(super) fn file(&self, key: &Key) -> PathBuf {
        self.path.join([&*key.owner.to_hex(), "-", &key.hash.to_nix32(), EXTENSION].concat())
    }

    /// Returns the path of a temporary file.
    pub(super) fn temp_file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number}{TEMP_EXTENSION}"))
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in self.path.read_dir()? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_ours) && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_ours(name: &str) -> bool {
    if let Some(number) = name.strip_suffix(TEMP_EXTENSION) {
        return number.parse::<u64>().is_ok();
    }
    let parts = name.strip_suffix(EXTENSION).and_then(|name| name.split_once('-'));
    parts.is_some_and(|(owner, hash)| {
        let is_owner = owner.len() == Owner::HEX_LEN && owner.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_owner && FileHash::from_nix32(hash).is_some()
    })
}

/// Opens the mark. `None` if there is none of harmonia.
fn open_mark(dir: &Path) -> io::Result<Option<File>> {
    let path = dir.join(MARK);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    }
    let mark = File::open(path)?;
    let mut text = Vec::with_capacity(MARK_TEXT.len());
    (&mark).take(MARK_TEXT.len() as u64).read_to_end(&mut text)?;
    Ok((text == MARK_TEXT.as_bytes()).then_some(mark))
}

/// Returns whether it is empty, apart from a mark that a full disk left without its text.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        if entry.file_name() != MARK || entry.metadata()?.len() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes and syncs the mark, so that a power failure does not lose it and keep files.
fn write_mark(dir: &Path) -> io::Result<File> {
    let mut mark = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join(MARK))?;
    if let Err(cause) = mark.write_all(MARK_TEXT.as_bytes()) {
        let _ = fs::remove_file(dir.join(MARK));
        return Err(cause);
    }
    mark.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    const HASH: &str = "1b9p07z77phvv2hf6gm9f28syp39f1ag3r8kb2zkdrsx1ljkzl8g";

    #[test]
    fn only_leftovers_of_harmonia_are_removed() {
        let around = TempDir::new().unwrap();
        let path = around.path().join("spool");
        let spool = SpoolDirectory::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        let left = format!("{}-{HASH}.nar", Owner::named("user:alice").to_hex());
        for name in ["7.part", &left, "notes", "x.part", &format!("x-{HASH}.nar")] {
            fs::write(path.join(name), "x").unwrap();
        }
        assert!(matches!(SpoolDirectory::open(&path), Err(SpoolDirectoryError::Locked(_))));
        drop(spool);
        SpoolDirectory::open(&path).unwrap();
        let mut names: Vec<_> =
            path.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [MARK, "notes", &format!("x-{HASH}.nar"), "x.part"].map(str::to_owned));
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused_and_stays_as_it_is() {
        let around = TempDir::new().unwrap();
        let path = around.path().join("spool");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("7.part"), "mail").unwrap();
        assert!(matches!(SpoolDirectory::open(&path), Err(SpoolDirectoryError::NotOurs(_))));
        assert!(path.join("7.part").exists());
        fs::remove_file(path.join("7.part")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(SpoolDirectory::open(&path), Err(SpoolDirectoryError::Public(_))));
        let link = around.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(SpoolDirectory::open(&link), Err(SpoolDirectoryError::Public(_))));
    }
}
