//! A NAR, or a part of it, read from the files of a store path by its index.
//!
//! Holds no descriptor between two pieces. Reads of the files only what is to be sent. What is not as the index says ends
//! it in an error; where the bytes are not hashed, so does a path that does not look as it did when they were proven.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use harmonia_protocol::nar::{Layout, Segment, Segments};
use rustix::io::{Errno, ReadWriteFlags};

use super::open;
use crate::store::StoreError;
use crate::store::regular_file::open_configured;
use crate::store::sighting::Sighting;

/// How much is read at once, in bytes: with [`SLACK`] what a body may have on its way. The store directory is opened for
/// each piece, and the path looked at; pieces of half that size took a tenth more time.
pub(super) const PIECE: usize = 248 << 10;
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
    /// What there is of the next piece.
    piece: Vec<u8>,
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
        Self {
            real_directory,
            path,
            seen,
            segments: Segments::new(layout),
            skip,
            remaining,
            file: None,
            piece: Vec::new(),
        }
    }

    /// Bytes that are wanted still.
    pub(super) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes; none after the last ones. After an error there is nothing more to be had. Blocks on the disk.
    pub(super) fn piece(&mut self) -> Result<Bytes, StoreError> {
        self.gather(true)?;
        self.hand_on()
    }

    /// The same if the disk need not be waited for; else `None`, and what has been read is kept for the next call. Nor is a
    /// part's first byte looked for, which may be far into a large index.
    pub(super) fn piece_now(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.skip == 0 && self.gather(false)? { self.hand_on().map(Some) } else { Ok(None) }
    }

    fn hand_on(&mut self) -> Result<Bytes, StoreError> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= piece.len() as u64;
        // What looks the same afterwards has looked so meanwhile: change times do not come again.
        self.look()?;
        Ok(piece.into())
    }

    /// Reads until there is a piece; whether that could be done.
    fn gather(&mut self, may_wait: bool) -> Result<bool, StoreError> {
        let store = open_configured(&self.real_directory);
        let store = store.map_err(|cause| StoreError::file(&self.real_directory, &cause))?;
        let store = store.ok_or_else(|| self.changed())?;
        let wanted = usize::try_from(self.remaining).unwrap_or(PIECE).min(PIECE);
        if self.piece.is_empty() {
            self.piece.reserve_exact(wanted + SLACK);
        }
        while self.piece.len() < wanted {
            let Some(mut file) = self.file.take() else {
                self.advance()?;
                continue;
            };
            let count = (file.size - file.at).min((wanted - self.piece.len()) as u64);
            if count > 0 {
                let Some(read) = self.read(&store, &file, count, may_wait)? else {
                    self.file = Some(file);
                    return Ok(false);
                };
                file.at += read;
            }
            if file.at < file.size {
                self.file = Some(file);
            }
        }
        Ok(true)
    }

    /// Goes on by one segment: takes up what is the NAR's own, or comes to a file.
    fn advance(&mut self) -> Result<(), StoreError> {
        let before = self.piece.len();
        let segment = self.segments.next(&mut self.piece).ok_or_else(|| self.changed())?;
        let written = (self.piece.len() - before) as u64;
        let skipped = self.skip.min(written);
        self.skip -= skipped;
        self.piece.drain(before..before + usize::try_from(skipped).unwrap_or(usize::MAX));
        if let Segment::Contents { executable, size } = segment {
            let at = self.skip.min(size);
            self.skip -= at;
            self.file = Some(Reading { executable, size, at });
        }
        Ok(())
    }

    /// Takes up some bytes of a file, one or more and no more than `count`; `None` if the disk would have to be waited for.
    fn read(&mut self, store: &OwnedFd, from: &Reading, count: u64, may_wait: bool) -> Result<Option<u64>, StoreError> {
        let mut path = self.path.base_name().as_bytes().to_vec();
        if !self.segments.path().is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.segments.path());
        }
        let opened = open::file(store, &path, from.executable, from.size, may_wait);
        let read = opened.and_then(|file| match file {
            Some(file) if may_wait => read_on(file, from.at, count, &mut self.piece),
            Some(file) => read_cached(&file, from.at, count, &mut self.piece),
            None => Ok(0),
        });
        match read {
            Ok(0) => Err(self.changed()),
            Ok(read) => Ok(Some(read as u64)),
            Err(cause) if !may_wait && open::is_wait(&cause) => Ok(None),
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

fn read_on(mut file: File, at: u64, count: u64, piece: &mut Vec<u8>) -> io::Result<usize> {
    if at > 0 {
        file.seek(SeekFrom::Start(at))?;
    }
    file.take(count).read_to_end(piece)
}

/// Reads what is in memory.
fn read_cached(file: &File, at: u64, count: u64, piece: &mut Vec<u8>) -> io::Result<usize> {
    let before = piece.len();
    piece.resize(before + usize::try_from(count).map_err(io::Error::other)?, 0);
    let room = &mut [IoSliceMut::new(&mut piece[before..])];
    let read = rustix::io::preadv2(file, room, at, ReadWriteFlags::NOWAIT);
    piece.truncate(before + read.unwrap_or_default());
    Ok(read?)
}

/// Whether what was there has gone, or has become something that is not opened.
fn is_gone(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO))
}
