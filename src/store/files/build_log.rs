//! The logs of builds, as nix-daemon leaves them below its log directory: `drvs/<2>/<rest>` with the base name of the
//! derivation cut after two characters, plain or with `.bz2` (Nix, `src/libstore/build/derivation-goal.cc`) or `.zst`.
//!
//! A log is found by the hash part of its derivation alone: clients send the characters after it in several ways. The
//! daemon gives no logs to users that it does not trust, so this reads the files; the directories and files themselves
//! must not be links.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use harmonia_protocol::{HashPart, StorePath};
use rustix::fs::Dir;

use crate::store::error::StoreError;
use crate::store::files::regular_file::{RegularFile, open_configured, open_directory};

/// Entries of one directory that are looked at. Nix spreads logs over 1024 directories by two random characters, so a
/// hundred million builds have room.
const MAX_ENTRIES: usize = 100_000;
/// Where Nix leaves out its compression or adds it.
const FORMS: [(LogCompression, &str); 3] =
    [(LogCompression::Plain, ""), (LogCompression::Zstd, ".zst"), (LogCompression::Bzip2, ".bz2")];

/// A log.
#[derive(Debug)]
pub struct BuildLog {
    /// As it lies there.
    pub file: RegularFile,
    /// How.
    pub form: LogCompression,
}

/// How a log lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogCompression {
    /// As text.
    Plain,
    /// Compressed by zstd.
    Zstd,
    /// Compressed by bzip2, as Nix does unless it is told not to.
    Bzip2,
}

/// Finds and opens the log of the derivation with this hash part, below Nix's log directory. Blocks on the disk.
pub(crate) fn find(log_dir: &Path, derivation: HashPart) -> Result<Option<BuildLog>, StoreError> {
    let (start, rest) = derivation.as_str().split_at(2);
    let path = log_dir.join("drvs").join(start);
    let failed = |cause: &io::Error| StoreError::file(&path, cause);
    let Some(top) = open_configured(log_dir).map_err(|cause| failed(&cause))? else { return Ok(None) };
    let drvs = open_directory(top, OsStr::new("drvs")).map_err(|cause| failed(&cause))?;
    let Some(drvs) = drvs else { return Ok(None) };
    let directory = open_directory(drvs, OsStr::new(start)).map_err(|cause| failed(&cause))?;
    let Some(directory) = directory else { return Ok(None) };
    let entries = Dir::read_from(&directory).map_err(|errno| failed(&errno.into()))?;
    let mut seen = 0;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| failed(&errno.into()))?;
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(failed(&io::Error::other(format!("it has more than {MAX_ENTRIES} entries"))));
        }
        if let Some(form) = form(start, rest, entry.file_name().to_bytes()) {
            names.push((form, entry.file_name().to_bytes().to_owned()));
        }
    }
    for (wanted, _) in FORMS {
        for (form, name) in names.iter().filter(|(form, _)| *form == wanted) {
            let name = OsStr::from_bytes(name);
            if let Some(file) = RegularFile::open(&directory, name, &path.join(name))? {
                return Ok(Some(BuildLog { file, form: *form }));
            }
        }
    }
    Ok(None)
}

/// The form of the log of this name, if it is one of the derivation whose hash part is `start` and `rest`.
fn form(start: &str, rest: &str, name: &[u8]) -> Option<LogCompression> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.starts_with(rest))?;
    let is_derivation =
        |stem: &str| StorePath::from_base_name(&format!("{start}{stem}")).is_ok_and(|path| path.is_derivation());
    let named = FORMS.iter().find(|(_, suffix)| name.strip_suffix(suffix).is_some_and(is_derivation));
    named.map(|(form, _)| *form)
}
