//! Reads a NAR, or a range of it, from the files of a store path by its index.
//!
//! Holds no file open between two pieces and reads only the bytes requested. Fails if a file differs from the index or
//! was modified since, and, where the bytes are not hashed, if the path's stamp has changed since they were verified.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use harmonia_protocol::nar::{Layout, Segment, Segments};
use rustix::io::{Errno, ReadWriteFlags};

use crate::store::error::StoreError;
use crate::store::nar::files::buffer_pool::{BufferPool, Piece};
use crate::store::nar::files::open;
use crate::store::nar::files::open::{Expected, LastModified};
use crate::store::path_info::path_stamp::PathStamp;

/// Target size of a piece, in bytes; half of it took 10 % more time, since each piece opens files and checks the stamp.
pub(crate) const PIECE: usize = 248 << 10;
/// Bytes by which a piece may exceed [`PIECE`]: NAR syntax between two files.
pub(crate) const SLACK: usize = 8 << 10;

/// Reads a NAR piece by piece.
#[derive(Debug)]
pub(crate) struct Reader {
    from: Arc<OpenStore>,
    path: StorePath,
    /// Stamp the path must keep; `None` if the bytes are hashed.
    stamp: Option<PathStamp>,
    /// Latest modification time a file may have.
    modified: LastModified,
    segments: Segments<Arc<Layout>>,
    /// Bytes of the NAR left to skip before the range.
    skip: u64,
    /// Bytes of the range left to return.
    remaining: u64,
    /// File being read.
    file: Option<Reading>,
    /// Next piece, partly filled.
    piece: Option<Piece>,
    /// Scratch buffer for NAR syntax between two files.
    tokens: Vec<u8>,
}

/// Open store directory, shared by all readers.
#[derive(Debug)]
pub(crate) struct OpenStore {
    /// Path of the store directory.
    pub(crate) directory: PathBuf,
    /// Descriptor of the store directory.
    pub(crate) store: OwnedFd,
    pub(crate) pieces: Arc<BufferPool>,
}

#[derive(Debug)]
struct Reading {
    executable: bool,
    size: u64,
    at: u64,
}

impl Reader {
    /// Creates a reader of a range of a path's NAR.
    pub(crate) fn new(
        from: Arc<OpenStore>,
        path: StorePath,
        layout: Arc<Layout>,
        modified: LastModified,
        bytes: Range<u64>,
    ) -> Self {
        Self {
            from,
            path,
            stamp: None,
            modified,
            segments: Segments::new(layout),
            skip: bytes.start,
            remaining: bytes.end - bytes.start,
            file: None,
            piece: None,
            tokens: Vec::new(),
        }
    }

    /// Makes every following piece fail if the path's stamp is another one.
    pub(crate) fn require_stamp(&mut self, stamp: PathStamp) {
        self.stamp = Some(stamp);
    }

    /// Returns the number of bytes left.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the next bytes, empty at the end. Must not be called again after an error. Blocks on the disk.
    pub(crate) fn piece(&mut self) -> Result<Bytes, StoreError> {
        self.fill_piece(true)?;
        self.finish_piece()
    }

    /// Returns the next bytes if they are in the page cache, else `None`; bytes read so far are kept for the next call.
    ///
    /// Also `None` before the first piece of a range that does not begin at 0, because seeking in a large index takes
    /// time.
    pub(crate) fn piece_now(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.skip == 0 && self.fill_piece(false)? { self.finish_piece().map(Some) } else { Ok(None) }
    }

    fn finish_piece(&mut self) -> Result<Bytes, StoreError> {
        let Some(mut piece) = self.piece.take() else { return Ok(Bytes::new()) };
        piece.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= piece.len() as u64;
        // The same stamp after the read means that it did not change during the read: a ctime does not come back.
        self.check_stamp()?;
        Ok(piece.into_bytes())
    }

    /// Fills a whole piece; returns false if that would block and `may_wait` is false.
    fn fill_piece(&mut self, may_wait: bool) -> Result<bool, StoreError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(PIECE).min(PIECE);
        let mut piece = self.piece.take().unwrap_or_else(|| self.from.pieces.take(wanted + SLACK));
        let filled = self.fill_piece_into(&mut piece, wanted, may_wait);
        self.piece = Some(piece);
        filled
    }

    fn fill_piece_into(&mut self, piece: &mut Piece, wanted: usize, may_wait: bool) -> Result<bool, StoreError> {
        while piece.len() < wanted {
            let Some(mut file) = self.file.take() else {
                self.advance(piece)?;
                continue;
            };
            let count = (file.size - file.at).min((wanted - piece.len()) as u64);
            if count > 0 {
                let Some(read) = self.read(&file, piece.spare(usize::try_from(count).unwrap_or(PIECE)), may_wait)?
                else {
                    self.file = Some(file);
                    return Ok(false);
                };
                piece.fill(read);
                file.at += read as u64;
            }
            if file.at < file.size {
                self.file = Some(file);
            }
        }
        Ok(true)
    }

    /// Moves to the next segment of the index: appends its NAR syntax and starts on its file, if any.
    fn advance(&mut self, piece: &mut Piece) -> Result<(), StoreError> {
        self.tokens.clear();
        let segment = self.segments.next(&mut self.tokens).ok_or_else(|| self.changed())?;
        let skipped = self.skip.min(self.tokens.len() as u64);
        self.skip -= skipped;
        piece.extend(&self.tokens[usize::try_from(skipped).unwrap_or_default()..]);
        if let Segment::Contents { executable, size } = segment {
            let at = self.skip.min(size);
            self.skip -= at;
            self.file = Some(Reading { executable, size, at });
        }
        Ok(())
    }

    /// Reads at least one byte of a file into `buffer`; `None` if that would block and `may_wait` is false.
    fn read(&self, from: &Reading, buffer: &mut [u8], may_wait: bool) -> Result<Option<usize>, StoreError> {
        let mut path = self.path.base_name().as_bytes().to_vec();
        if !self.segments.path().is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.segments.path());
        }
        let expected = Expected { executable: from.executable, size: from.size, modified: self.modified };
        let opened = open::file(&self.from.store, &path, &expected, may_wait);
        let read = opened.and_then(|file| match file {
            Some(file) if may_wait => read_fully(&file, from.at, buffer),
            Some(file) => read_cached(&file, from.at, buffer),
            None => Ok(0),
        });
        match read {
            Ok(0) => Err(self.changed()),
            Ok(read) => Ok(Some(read)),
            Err(cause) if !may_wait && open::is_wait(&cause) => Ok(None),
            Err(cause) if is_gone(&cause) => Err(self.changed()),
            Err(cause) => Err(StoreError::file(&self.from.directory.join(OsStr::from_bytes(&path)), &cause)),
        }
    }

    fn check_stamp(&self) -> Result<(), StoreError> {
        match self.stamp {
            Some(_) if PathStamp::read(&self.from.directory, &self.path) != self.stamp => Err(self.changed()),
            _ => Ok(()),
        }
    }

    fn changed(&self) -> StoreError {
        StoreError::Changed(self.path.clone())
    }
}

/// Reads from offset `at` until the buffer is full or the file ends.
fn read_fully(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

/// Reads from the page cache, at offset `at`.
fn read_cached(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT)?)
}

/// Returns whether the file is gone or has become one that is not opened.
fn is_gone(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO))
}
