//! Free space on the file system of the directory, which may be less than `nar_cache.max_size`.
//!
//! Owns how much is left to other programs, and what the operator is told if space is short.

use std::io;
use std::path::Path;

use super::entry::max_file_size;
use crate::human_size::human_size;

/// Space that is left to other programs: a twentieth of the file system, up to this many bytes.
const MAX_RESERVE: u64 = 1 << 30;
const RESERVE_DIVISOR: u64 = 20;

/// Space for compressed NARs on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreeSpace {
    /// Free now.
    pub(crate) free: u64,
    /// Free if the file system held nothing else.
    pub(crate) total: u64,
}

impl FreeSpace {
    /// Reads the free space for a directory, or for its nearest ancestor that exists.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
        let system = rustix::fs::statvfs(existing)?;
        if system.f_blocks == 0 {
            // Some network file systems do not tell.
            return Ok(Self { free: u64::MAX, total: u64::MAX });
        }
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        // Some free blocks are for root only.
        let total = bytes((system.f_blocks - system.f_bfree.min(system.f_blocks)).saturating_add(system.f_bavail));
        let reserve = (total / RESERVE_DIVISOR).min(MAX_RESERVE);
        Ok(Self { free: bytes(system.f_bavail).saturating_sub(reserve), total: total - reserve })
    }
}

/// Returns a warning if a cache in `dir`, which has `used` bytes of files, cannot grow to `max_size` bytes.
pub(crate) fn shortage(dir: &Path, max_size: u64, used: u64) -> io::Result<Option<String>> {
    Ok(warning(&dir.display().to_string(), max_size, used.saturating_add(FreeSpace::read(dir)?.free)))
}

fn warning(dir: &str, max_size: u64, available: u64) -> Option<String> {
    let help = "help: set nar_cache.dir to a directory on a larger file system";
    let smallest = max_file_size(1);
    if max_size < smallest {
        return Some(format!(
            "the NAR cache stays empty: nar_cache.max_size ({}) is too small for any NAR\n  help: set it to the size of the \
             whole cache, at least {}",
            human_size(max_size),
            human_size(smallest + (1 << 20))
        ));
    }
    if available < smallest {
        return Some(format!("the NAR cache stays empty: the file system of {dir} is full\n  {help}"));
    }
    (available < max_size).then(|| {
        format!(
            "nar_cache.max_size is {}, but the file system of {dir} has only {} for it\n  {help}, or lower \
             nar_cache.max_size",
            human_size(max_size),
            human_size(available)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_how_much_space_there_is() {
        let warning = |max_size, available| warning("/d", max_size, available).unwrap_or_default();
        assert_eq!(warning(10 << 30, 20 << 30), "");
        assert!(warning(1 << 20, 20 << 30).contains("nar_cache.max_size (1.0 MiB) is too small for any NAR"));
        assert!(warning(10 << 30, 1 << 20).contains("the file system of /d is full"));
        let text = warning(10 << 30, 3 << 29);
        assert!(text.starts_with("nar_cache.max_size is 10.0 GiB, but the file system of /d has only 1.5 GiB for it"));
        assert!(text.contains("\n  help: "), "{text}");
    }

    #[test]
    fn a_directory_that_does_not_exist_has_the_space_of_its_parent() {
        let (dir, missing) = (Path::new("/"), Path::new("/nonexistent/nars"));
        assert_eq!(FreeSpace::read(missing).unwrap().total, FreeSpace::read(dir).unwrap().total);
        let space = FreeSpace::read(dir).unwrap();
        assert!(space.free <= space.total && space.total > 0);
    }
}
