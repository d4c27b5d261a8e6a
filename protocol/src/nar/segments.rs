//! Writing a NAR from its index: the bytes around the contents of files, and which contents follow.

use std::ops::Deref;

use bytes::BufMut;

use super::event::{Event, Object};
use super::layout::{Cursor, Layout};
use super::writer::Writer;

/// Next part of a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Only bytes that were appended.
    Tokens,
    /// Bytes that were appended, and after them the contents of the file at [`Segments::path`], which the caller appends.
    Contents {
        /// Whether the execute bit of the file's mode is set.
        executable: bool,
        /// Size of the contents, in bytes.
        size: u64,
    },
}

/// Writer of a NAR from its index, without the contents of files. `L` is any pointer to the index.
#[derive(Debug)]
pub struct Segments<L> {
    layout: L,
    cursor: Cursor,
    writer: Writer,
    /// Path of the latest object: names with slashes between them.
    path: Vec<u8>,
    /// Length of the path of each open directory.
    open: Vec<usize>,
    /// Size of the file whose contents the caller appends.
    file: Option<u64>,
}

impl<L: Deref<Target = Layout>> Segments<L> {
    /// Creates a writer before the first byte.
    pub fn new(layout: L) -> Self {
        let (cursor, writer) = (Cursor::default(), Writer::new());
        Self { layout, cursor, writer, path: Vec::new(), open: Vec::new(), file: None }
    }

    /// Appends the next bytes to `nar`, a few for each object. Returns `None` at the end.
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

    /// Returns the path of the latest object, from the root down, with slashes between the names; empty at the root.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}
