//! A NAR, or a part of it, read from the files of a store path by its index.
//!
//! Holds no descriptor between two pieces. Reads of the files only what is to be sent. What is not as the index says ends
//! it in an error; where the bytes are not hashed, so does a path that does not look as it did when they were proven.

use std::ffi::OsStr;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use harmonia_protocol::nar::{Layout, Segment, Segments};
use rustix::io::Errno;

use super::open;
use crate::store::StoreError;
use crate::store::regular_file::open_configured;
use crate::store::sighting::Sighting;

/// How much is read at once, in bytes.
pub(super) const PIECE: usize = 128 << 10;
/// A piece may be longer by what stands between two files.
const SLACK: usize = 8 << 10;

/// Reads a NAR piece by piece.
#[derive(Debug)]
pub(super) struct Reader {
    real_directory: Arc<Path>,
    path: StorePath,
    /// How the path must look while bytes are read that nobody hashes.
    seen: Option<Sighting>,
    segments: Segments<Arc<Layout>>,
    /// Bytes of the NAR before those that are wanted.
    skip: u64,
    /// Bytes that are wanted still.
    remaining: u64,
    /// The file that is being read.
    file: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    executable: bool,
    size: u64,
    at: u64,
}

impl Reader {
    /// Of these bytes of the NAR of a path. With `seen` the path must look like that.
    pub(super) fn new(
        real_directory: Arc<Path>,
        path: StorePath,
        seen: Option<Sighting>,
        layout: Arc<Layout>,
        bytes: Range<u64>,
    ) -> Self {
        let (skip, remaining) = (bytes.start, bytes.end - bytes.start);
        Self { real_directory, path, seen, segments: Segments::new(layout), skip, remaining, file: None }
    }

    /// Bytes that are wanted still.
    pub(super) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes; none after the last ones. After an error there is nothing more to be had. Blocks on the disk.
    pub(super) fn piece(&mut self) -> Result<Bytes, StoreError> {
        let store = open_configured(&self.real_directory);
        let store = store.map_err(|cause| StoreError::file(&self.real_directory, &cause))?;
        let store = store.ok_or_else(|| self.changed())?;
        let wanted = usize::try_from(self.remaining).unwrap_or(PIECE).min(PIECE);
        let mut piece = Vec::with_capacity(wanted + SLACK);
        while piece.len() < wanted {
            self.fill(&store, wanted, &mut piece)?;
        }
        piece.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= piece.len() as u64;
        // What looks the same afterwards has looked so meanwhile: change times do not come again.
        self.look()?;
        Ok(piece.into())
    }

    /// Goes on by one segment, or by what is wanted of a file.
    fn fill(&mut self, store: &OwnedFd, wanted: usize, piece: &mut Vec<u8>) -> Result<(), StoreError> {
        if let Some(Reading { executable, size, at }) = self.file.take() {
            let count = (size - at).min((wanted - piece.len()) as u64);
            if count > 0 {
                self.read(store, &Reading { executable, size, at }, count, piece)?;
            }
            if at + count < size {
                self.file = Some(Reading { executable, size, at: at + count });
            }
            return Ok(());
        }
        let before = piece.len();
        let segment = self.segments.next(piece).ok_or_else(|| self.changed())?;
        let written = (piece.len() - before) as u64;
        let skipped = self.skip.min(written);
        self.skip -= skipped;
        piece.drain(before..before + usize::try_from(skipped).unwrap_or(usize::MAX));
        if let Segment::Contents { executable, size } = segment {
            let at = self.skip.min(size);
            self.skip -= at;
            self.file = Some(Reading { executable, size, at });
        }
        Ok(())
    }

    fn read(&self, store: &OwnedFd, from: &Reading, count: u64, piece: &mut Vec<u8>) -> Result<(), StoreError> {
        let mut path = self.path.base_name().as_bytes().to_vec();
        if !self.segments.path().is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.segments.path());
        }
        let mut read = || {
            let Some(mut file) = open::file(store, &path, from.executable, from.size)? else { return Ok(false) };
            if from.at > 0 {
                file.seek(SeekFrom::Start(from.at))?;
            }
            Ok(file.take(count).read_to_end(piece)? as u64 == count)
        };
        match read() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.changed()),
            Err(cause) if is_gone(&cause) => Err(self.changed()),
            Err(cause) => Err(StoreError::file(&self.real_directory.join(OsStr::from_bytes(&path)), &cause)),
        }
    }

    fn look(&self) -> Result<(), StoreError> {
        match self.seen {
            Some(_) if Sighting::of(&self.real_directory, &self.path) != self.seen => Err(self.changed()),
            _ => Ok(()),
        }
    }

    fn changed(&self) -> StoreError {
        StoreError::Changed(self.path.clone())
    }
}

/// Whether what was there has gone, or has become something that is not opened.
fn is_gone(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO))
}
