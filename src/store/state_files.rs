//! Small files in the state directory, replaced as a whole: after a crash at any moment there is the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Suffix of a file that is not complete. Whatever has it may be removed.
pub(crate) const INCOMPLETE: &str = ".tmp";

/// Returns the time in seconds since 1970.
pub(crate) fn now() -> u64 {
    seconds_since_epoch(SystemTime::now())
}

/// Returns a time in seconds since 1970; zero before that.
pub(crate) fn seconds_since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Creates a directory and those above it, if they are missing.
pub(crate) fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads a file of at most `max` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(Some(bytes))
}

/// Replaces the file `name` of a directory and waits until it is on the disk. Only its owner may read it.
pub(crate) fn replace(directory: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let incomplete = directory.join(format!("{name}{INCOMPLETE}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&incomplete)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&incomplete, directory.join(name))?;
    sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_whatever_a_crash_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        assert_eq!(read(&file, 3).unwrap(), None);
        fs::write(dir.path().join("a.tmp"), "left by a crash").unwrap();
        replace(dir.path(), "a", b"new").unwrap();
        assert_eq!(read(&file, 3).unwrap().unwrap(), b"new");
        assert!(read(&file, 2).unwrap_err().to_string().contains("more than 2 bytes"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
