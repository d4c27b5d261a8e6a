//! A NAR by its index: the bytes that are the NAR's own, and between them which file's contents are due.

use std::ops::Deref;

use bytes::BufMut;

use super::event::{Event, Object};
use super::layout::{Cursor, Layout};
use super::writer::Writer;

/// What comes next in a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Bytes that have been written.
    Tokens,
    /// The contents of a file, after bytes that have been written: for the caller to put there. Where the file is, is
    /// [`Segments::path`].
    Contents {
        /// Whether the file's mode has the execute bit.
        executable: bool,
        /// Bytes of contents.
        size: u64,
    },
}

/// Goes through a NAR without its files. `L` is any pointer to its index.
#[derive(Debug)]
pub struct Segments<L> {
    layout: L,
    cursor: Cursor,
    writer: Writer,
    /// Where the latest object is: names with slashes between them.
    path: Vec<u8>,
    /// How long the path of each open directory is.
    open: Vec<usize>,
    /// The size of a file whose contents are due or were.
    file: Option<u64>,
}

impl<L: Deref<Target = Layout>> Segments<L> {
    /// Starts before the first byte.
    pub fn new(layout: L) -> Self {
        let (cursor, writer) = (Cursor::default(), Writer::new());
        Self { layout, cursor, writer, path: Vec::new(), open: Vec::new(), file: None }
    }

    /// Appends the next bytes to `nar`, a few for each object; `None` at the end.
    pub fn next(&mut self, nar: &mut impl BufMut) -> Option<Segment> {
        if let Some(size) = self.file.take() {
            self.writer.end_file(size, nar);
            return Some(Segment::Tokens);
        }
        let event = self.cursor.next(&self.layout)?;
        self.writer.put(event, nar);
        let Event::Object { name, object } = event else {
            self.open.pop();
            return Some(Segment::Tokens);
        };
        self.path.truncate(self.open.last().copied().unwrap_or_default());
        if let Some(name) = name {
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
        }
        Some(match object {
            Object::Regular { executable, size, .. } => {
                self.file = Some(size);
                Segment::Contents { executable, size }
            }
            Object::Directory => {
                self.open.push(self.path.len());
                Segment::Tokens
            }
            Object::Symlink { .. } => Segment::Tokens,
        })
    }

    /// Where the latest object is, from the root down, with slashes between the names; empty at the root.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}
