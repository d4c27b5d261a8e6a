//! The file `hidden` of the state directory: a line of JSON that says how many there are, then a line for each hidden path.
//!
//! Whatever is wrong with it is an error, a missing line too: serving what has to be hidden would be worse than not to start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use harmonia_protocol::HashPart;
use serde::{Deserialize, Serialize};

use crate::store::hidden::hidden_path::HiddenPath;
use crate::store::state_files;

/// Name of the file.
const NAME: &str = "hidden";
/// Number of the format.
const FORMAT: u32 = 1;
/// Upper bound of hidden paths, of which each takes some hundred bytes in memory.
pub(crate) const MAX_PATHS: usize = 10_000;
/// Upper bound of the size of the file, in bytes: [`MAX_PATHS`] with the longest reasons, escaped.
const MAX_SIZE: u64 = 64 << 20;

/// Hidden paths by hash part.
pub(crate) type Paths = BTreeMap<HashPart, HiddenPath>;

/// Reason why the hidden paths cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HiddenError {
    /// No state directory is configured.
    #[error("hidden paths need a directory that survives restarts\n  help: set state_dir, and restart the server")]
    NoStateDirectory,
    /// The file cannot be read.
    #[error(
        "cannot read the hidden paths in {}: {cause}\n  help: make the file readable for this user; without it harmonia would serve \
         what has to be hidden",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{}:{line}: {cause}\n  help: correct the file, or move it away and hide its paths again before the cache is reachable; without it \
         harmonia would serve what has to be hidden",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Error of the line.
        cause: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {cause}\n  help: make the directory writable for the server's user", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// Too many paths are hidden.
    #[error("{MAX_PATHS} paths are hidden already\n  help: show some again with harmonia unhide")]
    Full,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    paths: usize,
}

/// Reads the file of a state directory. Without a file no path is hidden. Blocks on the disk.
pub(crate) fn read(state_dir: &Path) -> Result<Paths, HiddenError> {
    let path = state_dir.join(NAME);
    let bytes = match state_files::read(&path, MAX_SIZE) {
        Ok(None) => return Ok(Paths::new()),
        Ok(Some(bytes)) => bytes,
        Err(cause) => return Err(HiddenError::Read { path, cause }),
    };
    parse(&bytes).map_err(|(line, cause)| HiddenError::Damaged { path, line, cause })
}

/// Parses a file. The error has the number of the line.
fn parse(bytes: &[u8]) -> Result<Paths, (usize, String)> {
    let text = std::str::from_utf8(bytes).map_err(|error| (1, error.to_string()))?;
    let mut lines = text.lines();
    let header = lines.next().ok_or_else(|| (1, "the file is empty".to_owned()))?;
    let Header { format, paths: expected } = parsed(1, header)?;
    if format != FORMAT {
        return Err((1, format!("format {format} is not known to this release, which reads {FORMAT}")));
    }
    let mut paths = Paths::new();
    for (nth, line) in lines.enumerate() {
        let path: HiddenPath = parsed(nth + 2, line)?;
        paths.insert(path.hash, path);
    }
    if paths.len() != expected || expected > MAX_PATHS {
        return Err((1, format!("it has {} paths, but its first line says {expected}", paths.len())));
    }
    Ok(paths)
}

fn parsed<'t, T: Deserialize<'t>>(number: usize, line: &'t str) -> Result<T, (usize, String)> {
    serde_json::from_str(line).map_err(|error| (number, error.to_string()))
}

/// Replaces the file of a state directory, which is created if it is missing. Blocks on the disk.
pub(crate) fn write(state_dir: &Path, paths: &Paths) -> Result<(), HiddenError> {
    let written = render(paths).and_then(|text| {
        state_files::create_directory(state_dir, 0o755)?;
        state_files::replace(state_dir, NAME, text.as_bytes())
    });
    written.map_err(|cause| HiddenError::Write { path: state_dir.join(NAME), cause })
}

fn render(paths: &Paths) -> io::Result<String> {
    let mut text = serde_json::to_string(&Header { format: FORMAT, paths: paths.len() })? + "\n";
    for path in paths.values() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", serde_json::to_string(path)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        let path = |number: u32| HiddenPath {
            hash: format!("{number:032}").parse().unwrap(),
            path: Some(format!("{number:032}-secret")),
            deriver: None,
            referrers: number == 1,
            reason: Some("a key\nin two \"lines\"".to_owned()),
            by: "root".to_owned(),
            since: 1_800_000_000,
        };
        (0..3).map(path).map(|path| (path.hash, path)).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/for it");
        assert_eq!(read(&state).unwrap(), Paths::new());
        for paths in [paths(), Paths::new()] {
            write(&state, &paths).unwrap();
            assert_eq!(read(&state).unwrap(), paths);
        }
    }

    #[test]
    fn a_file_that_lost_any_of_its_lines_or_bytes_is_an_error() {
        let whole = render(&paths()).unwrap();
        assert_eq!(parse(whole.as_bytes()).unwrap(), paths());
        // The last line break says nothing.
        for length in 0..whole.len() - 1 {
            assert!(parse(&whole.as_bytes()[..length]).is_err(), "{}", &whole[..length]);
        }
        for (damage, line) in
            [("", 1), ("{\"format\":2,\"paths\":0}\n", 1), ("{\"format\":1,\"paths\":0}\n\n", 2), ("\0\0\0", 1)]
        {
            assert_eq!(parse(damage.as_bytes()).unwrap_err().0, line, "{damage:?}");
        }
        let unknown = whole.replace("\"since\"", "\"sinec\"");
        assert_eq!(parse(unknown.as_bytes()).unwrap_err().0, 2);
    }
}
