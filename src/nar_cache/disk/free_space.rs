//! FreeSpace on the file system of the directory, beside what `nar_cache.max_size` allows.
//!
//! Owns how much of it is left to others, and what an operator is told of room that there is not.

use std::io;
use std::path::Path;

use super::entry::max_file_size;

/// Of what the file system has a twentieth is left to others, who build on it, and no more than this, in bytes.
const MAX_LEFT: u64 = 1 << 30;
const PART_LEFT: u64 = 20;

/// FreeSpace for compressed NARs on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreeSpace {
    /// Now.
    pub(crate) free: u64,
    /// If it held nothing else.
    pub(crate) total: u64,
}

impl FreeSpace {
    /// That of a directory, or of the nearest one above it that exists.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
        let system = rustix::fs::statvfs(existing)?;
        if system.f_blocks == 0 {
            // One that does not say.
            return Ok(Self { free: u64::MAX, total: u64::MAX });
        }
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        // Some of what is free is only for root.
        let total = bytes((system.f_blocks - system.f_bfree.min(system.f_blocks)).saturating_add(system.f_bavail));
        let left = (total / PART_LEFT).min(MAX_LEFT);
        Ok(Self { free: bytes(system.f_bavail).saturating_sub(left), total: total - left })
    }
}

/// What an operator should know before NARs are kept in `dir`, which has `used` bytes of them: that there is less room than
/// `max_size` bytes.
pub(crate) fn shortage(dir: &Path, max_size: u64, used: u64) -> io::Result<Option<String>> {
    Ok(lack(&dir.display().to_string(), max_size, used.saturating_add(FreeSpace::read(dir)?.free)))
}

fn lack(dir: &str, max_size: u64, possible: u64) -> Option<String> {
    let help = "help: set nar_cache.dir to a directory on a larger file system";
    let mebibytes = |bytes| format!("{} MiB", bytes >> 20);
    if max_size < max_file_size(1) {
        let least = mebibytes(max_file_size(1) + (1 << 20));
        return Some(format!(
            "no nar is kept: nar_cache.max_size is {}, too small for any\n  help: it is the size of the whole cache, \
             {least} at the least",
            mebibytes(max_size)
        ));
    }
    if possible < max_file_size(1) {
        return Some(format!("no nar is kept: the file system of {dir} has no room for any\n  {help}"));
    }
    (possible < max_size).then(|| {
        format!(
            "nar_cache.max_size is {}, but the file system of {dir} has room for {} of that\n  {help}, or lower \
             nar_cache.max_size",
            mebibytes(max_size),
            mebibytes(possible)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_room_is_told_in_numbers() {
        let lack = |max_size, possible| lack("/d", max_size, possible).unwrap_or_default();
        assert_eq!(lack(10 << 30, 20 << 30), "");
        assert!(lack(1 << 20, 20 << 30).starts_with("no nar is kept: nar_cache.max_size is 1 MiB, too small"));
        assert!(lack(10 << 30, 1 << 20).starts_with("no nar is kept: the file system of /d has no room"));
        let text = lack(10 << 30, 3 << 29);
        assert!(text.starts_with("nar_cache.max_size is 10240 MiB, but the file system of /d has room for 1536 MiB"));
        assert!(text.contains("\n  help: "), "{text}");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_the_room_of_the_one_above() {
        let (dir, missing) = (Path::new("/"), Path::new("/nonexistent/nars"));
        assert_eq!(FreeSpace::read(missing).unwrap().total, FreeSpace::read(dir).unwrap().total);
        let room = FreeSpace::read(dir).unwrap();
        assert!(room.free <= room.total && room.total > 0);
    }
}
