//! The queue on disk: a file of lines, `+HASH SECONDS` for a path that was queued and `-HASH` for one that is done.
//!
//! Lines are appended, and the file is replaced when most of its lines are of the past. After a crash at any moment the file
//! has all lines but perhaps the last ones. A line that is not whole is ignored, and so is what else cannot be parsed.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use harmonia_protocol::HashPart;

use crate::store::{create_state_directory, read_state_file, replace_state_file};

/// Upper bound of queued paths, of about a hundred bytes in memory and on disk.
pub(super) const MAX_QUEUED: usize = 200_000;
/// Length of a line, in bytes: a hash part and a time.
const LINE: u64 = 48;
/// Size up to which the file is not replaced, in bytes.
const SMALL: u64 = 64 << 10;
/// Upper bound of the file's size, in bytes: lines of a full queue, as often as they may be of the past.
const MAX_FILE: u64 = SMALL + 4 * LINE * MAX_QUEUED as u64;
const NAME: &str = "queue";

/// File of a queue. All methods block on the disk.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    directory: PathBuf,
}

/// A change of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A path was queued at this time, in seconds since 1970.
    Queued(HashPart, u64),
    /// A path is done.
    Done(HashPart),
}

impl Journal {
    /// Opens the file in this directory, which is created, and returns the paths in it, in order.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Vec<(HashPart, u64)>)> {
        create_state_directory(directory, 0o700)?;
        let text = read_state_file(&directory.join(NAME), MAX_FILE)?.unwrap_or_default();
        let mut queued: Vec<(HashPart, u64)> = Vec::new();
        let mut is_queued = std::collections::HashMap::new();
        for line in text.split_inclusive(|byte| *byte == b'\n').filter_map(parse) {
            match line {
                Line::Queued(path, time) => {
                    is_queued.entry(path).or_insert_with(|| {
                        queued.push((path, time));
                        queued.len() - 1
                    });
                }
                Line::Done(path) => drop(is_queued.remove(&path)),
            }
        }
        let mut nth = 0..;
        queued.retain(|(path, _)| nth.next() == is_queued.get(path).copied());
        queued.truncate(MAX_QUEUED);
        Ok((Self { directory: directory.to_owned() }, queued))
    }

    /// Appends lines, and returns the size of the file.
    pub(super) fn append(&self, lines: &[Line]) -> io::Result<u64> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(self.directory.join(NAME))?;
        file.write_all(&render(lines))?;
        file.sync_data()?;
        Ok(file.metadata()?.len())
    }

    /// Replaces the file by one with these lines, and returns its size.
    pub(super) fn replace(&self, lines: &[Line]) -> io::Result<u64> {
        let text = render(lines);
        replace_state_file(&self.directory, NAME, &text)?;
        Ok(text.len() as u64)
    }

    /// Returns whether most lines of a file of this size are of the past, if so many paths are queued.
    pub(super) const fn is_stale(size: u64, queued: usize) -> bool {
        size > SMALL + 2 * LINE * queued as u64
    }
}

fn render(lines: &[Line]) -> Vec<u8> {
    let mut text = String::new();
    for line in lines {
        // Writing to a string does not fail.
        let _ = match line {
            Line::Queued(path, time) => writeln!(text, "+{path} {time}"),
            Line::Done(path) => writeln!(text, "-{path}"),
        };
    }
    text.into_bytes()
}

fn parse(line: &[u8]) -> Option<Line> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    if let Some(path) = line.strip_prefix('-') {
        return Some(Line::Done(path.parse().ok()?));
    }
    let (path, time) = line.strip_prefix('+')?.split_once(' ')?;
    Some(Line::Queued(path.parse().ok()?, time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[test]
    fn what_is_queued_and_not_done_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, queued) = Journal::open(directory.path()).unwrap();
        assert_eq!(queued, []);
        journal.append(&[Line::Queued(part(1), 7), Line::Queued(part(2), 8), Line::Done(part(1))]).unwrap();
        journal.append(&[Line::Queued(part(3), 9), Line::Queued(part(1), 10), Line::Done(part(3))]).unwrap();
        let (journal, queued) = Journal::open(directory.path()).unwrap();
        assert_eq!(queued, [(part(2), 8), (part(1), 10)]);
        journal.replace(&[Line::Queued(part(4), 1)]).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().1, [(part(4), 1)]);
    }

    #[test]
    fn a_line_that_was_cut_short_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(directory.path()).unwrap();
        journal.append(&[Line::Queued(part(1), 7), Line::Queued(part(2), 1234)]).unwrap();
        let file = directory.path().join(NAME);
        let text = std::fs::read(&file).unwrap();
        for length in 0..text.len() {
            std::fs::write(&file, &text[..length]).unwrap();
            let expected = usize::from(length >= text.len() / 2 - 1);
            assert!(Journal::open(directory.path()).unwrap().1.len() <= expected, "{length}");
        }
        std::fs::write(&file, [&text[..10], b"\n\xff\n-\n+x y\n", &text[..]].concat()).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().1.len(), 2);
    }
}
