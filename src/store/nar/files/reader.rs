//! A NAR, or a part of it, read from the files of a store path by its index.
//!
//! Holds no descriptor of a file between two pieces. Reads of the files only what is to be sent. What is not as the index
//! says ends it in an error, as does a file that was written to since; where the bytes are not hashed, so does a path that
//! does not look as it did when they were proven.

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

/// How much is read at once, in bytes: with [`SLACK`] what a body may have on its way. The path is looked at for each piece;
/// pieces of half that size took a tenth more time.
pub(crate) const PIECE: usize = 248 << 10;
/// A piece may be longer by what stands between two files.
pub(crate) const SLACK: usize = 8 << 10;

/// Reads a NAR piece by piece.
#[derive(Debug)]
pub(crate) struct Reader {
    from: Arc<OpenStore>,
    path: StorePath,
    /// How the path must look while bytes are read that nobody hashes.
    seen: Option<PathStamp>,
    /// No file may have been modified later.
    modified: LastModified,
    segments: Segments<Arc<Layout>>,
    /// Bytes of the NAR before those that are wanted.
    skip: u64,
    /// Bytes that are wanted still.
    remaining: u64,
    /// The file that is being read.
    file: Option<Reading>,
    /// What there is of the next piece, if there is anything.
    piece: Option<Piece>,
    /// What stands between two files, before it is in the piece.
    tokens: Vec<u8>,
}

/// What readers of one store have in common.
#[derive(Debug)]
pub(crate) struct OpenStore {
    /// The store directory.
    pub(crate) directory: PathBuf,
    /// The same, open.
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
    /// Of these bytes of the NAR of a path.
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
            seen: None,
            modified,
            segments: Segments::new(layout),
            skip: bytes.start,
            remaining: bytes.end - bytes.start,
            file: None,
            piece: None,
            tokens: Vec::new(),
        }
    }

    /// From now on the path must look like that.
    pub(crate) fn require_stamp(&mut self, seen: PathStamp) {
        self.seen = Some(seen);
    }

    /// Bytes that are wanted still.
    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes; none after the last ones. After an error there is nothing more to be had. Blocks on the disk.
    pub(crate) fn piece(&mut self) -> Result<Bytes, StoreError> {
        self.gather(true)?;
        self.hand_on()
    }

    /// The same if the disk need not be waited for; else `None`, and what has been read is kept for the next call. Nor is a
    /// part's first byte looked for, which may be far into a large index.
    pub(crate) fn piece_now(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.skip == 0 && self.gather(false)? { self.hand_on().map(Some) } else { Ok(None) }
    }

    fn hand_on(&mut self) -> Result<Bytes, StoreError> {
        let Some(mut piece) = self.piece.take() else { return Ok(Bytes::new()) };
        piece.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        self.remaining -= piece.len() as u64;
        // What looks the same afterwards has looked so meanwhile: change times do not come again.
        self.look()?;
        Ok(piece.into_bytes())
    }

    /// Reads until there is a piece; whether that could be done.
    fn gather(&mut self, may_wait: bool) -> Result<bool, StoreError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(PIECE).min(PIECE);
        let mut piece = self.piece.take().unwrap_or_else(|| self.from.pieces.take(wanted + SLACK));
        let gathered = self.gather_into(&mut piece, wanted, may_wait);
        self.piece = Some(piece);
        gathered
    }

    fn gather_into(&mut self, piece: &mut Piece, wanted: usize, may_wait: bool) -> Result<bool, StoreError> {
        while piece.len() < wanted {
            let Some(mut file) = self.file.take() else {
                self.advance(piece)?;
                continue;
            };
            let count = (file.size - file.at).min((wanted - piece.len()) as u64);
            if count > 0 {
                let Some(read) = self.read(&file, piece.room(usize::try_from(count).unwrap_or(PIECE)), may_wait)?
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

    /// Goes on by one segment: takes up what is the NAR's own, or comes to a file.
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

    /// Reads some bytes of a file, one or more and no more than there is room for; `None` if the disk would have to be waited
    /// for.
    fn read(&self, from: &Reading, room: &mut [u8], may_wait: bool) -> Result<Option<usize>, StoreError> {
        let mut path = self.path.base_name().as_bytes().to_vec();
        if !self.segments.path().is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.segments.path());
        }
        let expected = Expected { executable: from.executable, size: from.size, modified: self.modified };
        let opened = open::file(&self.from.store, &path, &expected, may_wait);
        let read = opened.and_then(|file| match file {
            Some(file) if may_wait => read_on(&file, from.at, room),
            Some(file) => read_cached(&file, from.at, room),
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

    fn look(&self) -> Result<(), StoreError> {
        match self.seen {
            Some(_) if PathStamp::read(&self.from.directory, &self.path) != self.seen => Err(self.changed()),
            _ => Ok(()),
        }
    }

    fn changed(&self) -> StoreError {
        StoreError::Changed(self.path.clone())
    }
}

/// Reads what there is, from `at` on, until the room is full.
fn read_on(file: &File, at: u64, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read_at(&mut room[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}

/// Reads what is in memory.
fn read_cached(file: &File, at: u64, room: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::preadv2(file, &mut [IoSliceMut::new(room)], at, ReadWriteFlags::NOWAIT)?)
}

/// Whether what was there has gone, or has become something that is not opened.
fn is_gone(cause: &io::Error) -> bool {
    matches!(Errno::from_io_error(cause), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO))
}
