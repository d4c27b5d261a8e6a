//! Build logs, which nix-daemon writes below its log directory as `drvs/<2>/<rest>`: the base name of the derivation,
//! split after two characters, plain or with `.bz2` (Nix, `src/libstore/build/derivation-goal.cc`) or `.zst`.
//!
//! A log is found by the hash part of its derivation, because clients encode the rest of the name differently.
//! nix-daemon sends logs only to trusted users, so the files are read directly. Neither directories nor files may be
//! symlinks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use harmonia_protocol::{HashPart, StorePath};
use rustix::fs::Dir;

use crate::store::error::StoreError;
use crate::store::files::regular_file::{RegularFile, open_configured, open_directory};

/// Upper bound of entries examined in a directory. Nix spreads logs over 1024 directories, so that this is enough for a
/// hundred million builds.
const MAX_ENTRIES: usize = 100_000;
/// Upper bound of the window of a zstd frame, as a power of two: 8 MiB, which levels up to 19 use.
const MAX_WINDOW_LOG: u32 = 23;
/// Compressions and their file name suffixes, in order of preference.
const FORMS: [(LogCompression, &str); 3] =
    [(LogCompression::Plain, ""), (LogCompression::Zstd, ".zst"), (LogCompression::Bzip2, ".bz2")];

/// A build log.
#[derive(Debug)]
pub struct BuildLog {
    /// The file, as stored.
    pub file: RegularFile,
    /// Compression of the file.
    pub form: LogCompression,
}

/// Compression of a build log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogCompression {
    /// Plain text.
    Plain,
    /// zstd.
    Zstd,
    /// bzip2, which is Nix's default.
    Bzip2,
}

impl LogCompression {
    /// Returns the text of a file with this compression.
    pub(crate) fn decoder(self, file: File) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(file)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Plain => Box::new(file),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(file)),
        })
    }
}

/// Opens the log of the derivation with this hash part. Blocks on the disk.
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
            return Err(failed(&io::Error::other(format!("more than {MAX_ENTRIES} entries"))));
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

/// Returns the compression of the log of this name, if it belongs to the derivation whose hash part is `start` and
/// `rest`.
fn form(start: &str, rest: &str, name: &[u8]) -> Option<LogCompression> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.starts_with(rest))?;
    let is_derivation =
        |stem: &str| StorePath::from_base_name(&format!("{start}{stem}")).is_ok_and(|path| path.is_derivation());
    let named = FORMS.iter().find(|(_, suffix)| name.strip_suffix(suffix).is_some_and(is_derivation));
    named.map(|(form, _)| *form)
}
