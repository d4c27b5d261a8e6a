//! The index of a NAR: its objects, and the offsets of the contents of files.
//!
//! It is flat, in the order of the NAR, with a link past the entries of each directory. So it needs two allocations instead
//! of one for each object, and no recursion.

use std::iter::FusedIterator;

use super::error::NarError;
use super::event::{Event, Object};
use super::limits::{MAX_ENTRIES, MAX_TEXT};
use super::parser::parse;

/// Index of a complete NAR: its objects, without the contents of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Objects in the order of the NAR, each directory before its contents. Never empty: the root is the first.
    slots: Vec<Slot>,
    /// Names and targets, to which the slots point.
    text: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    /// Empty at the root only.
    name: Text,
    kind: Kind,
    /// Index of the slot after this object and its contents.
    end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Regular { executable: bool, size: u64, offset: u64 },
    Symlink { target: Text },
    Directory,
}

/// Range of [`Layout::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Text {
    start: u32,
    length: u16,
}

impl Layout {
    /// Indexes a complete NAR in memory.
    pub fn from_nar(nar: &[u8]) -> Result<Self, NarError> {
        let mut builder = LayoutBuilder::new();
        parse(nar, &mut |event| builder.push(event))?;
        builder.finish()
    }

    /// Returns the object at `path`, which has the names from the root down; an empty path is the root. Does not follow
    /// symlinks.
    ///
    /// Takes a comparison for each entry that sorts before the name in its directory.
    #[must_use]
    pub fn find<'p>(&self, path: impl IntoIterator<Item = &'p [u8]>) -> Option<Object<'_>> {
        let mut found = 0;
        for name in path {
            found = self.child(found, name)?;
        }
        Some(self.object(&self.slots[found]))
    }

    /// Returns the events of the NAR, in order.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { layout: self, cursor: Cursor::default() }
    }

    /// Returns the memory that it occupies, in bytes.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.text.len()
    }

    fn child(&self, parent: usize, name: &[u8]) -> Option<usize> {
        let mut at = parent + 1;
        while at < self.slots[parent].end {
            let slot = &self.slots[at];
            let here = self.text(slot.name);
            if here >= name {
                return (here == name).then_some(at);
            }
            at = slot.end;
        }
        None
    }

    fn object(&self, slot: &Slot) -> Object<'_> {
        match slot.kind {
            Kind::Regular { executable, size, offset } => Object::Regular { executable, size, offset },
            Kind::Symlink { target } => Object::Symlink { target: self.text(target) },
            Kind::Directory => Object::Directory,
        }
    }

    fn text(&self, text: Text) -> &[u8] {
        let start = text.start as usize;
        &self.text[start..start + usize::from(text.length)]
    }
}

/// Builder of a [`Layout`] from the events of a [`Parser`](super::Parser).
#[derive(Debug)]
pub struct LayoutBuilder {
    layout: Layout,
    /// Slots of open directories.
    open: Vec<usize>,
    too_many: bool,
}

impl LayoutBuilder {
    /// Creates a builder before the first event.
    #[must_use]
    pub fn new() -> Self {
        let layout = Layout { slots: Vec::new(), text: Vec::new() };
        Self { layout, open: Vec::new(), too_many: false }
    }

    /// Adds the next event. If the NAR exceeds the bounds of a layout, [`finish`](Self::finish) reports that, so that the
    /// NAR can be streamed on.
    pub fn push(&mut self, event: Event<'_>) {
        if self.too_many {
            return;
        }
        match event {
            Event::Object { name, object } => {
                if self.add(name.unwrap_or_default(), object).is_none() {
                    self.too_many = true;
                    self.layout = Layout { slots: Vec::new(), text: Vec::new() };
                }
            }
            Event::EndDirectory => {
                if let Some(directory) = self.open.pop() {
                    self.layout.slots[directory].end = self.layout.slots.len();
                }
            }
        }
    }

    /// Returns the memory that the layout occupies so far, in bytes.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.layout.heap_size()
    }

    /// Returns the layout of a complete NAR.
    ///
    /// Fails with [`NarError::TooManyEntries`] if the NAR exceeds [`MAX_ENTRIES`] or [`MAX_TEXT`], and with
    /// [`NarError::Truncated`] if the tree is not complete.
    pub fn finish(mut self) -> Result<Layout, NarError> {
        if self.too_many {
            return Err(NarError::TooManyEntries);
        }
        if self.layout.slots.is_empty() || !self.open.is_empty() {
            return Err(NarError::Truncated);
        }
        self.layout.slots.shrink_to_fit();
        self.layout.text.shrink_to_fit();
        Ok(self.layout)
    }

    fn add(&mut self, name: &[u8], object: Object<'_>) -> Option<()> {
        let index = self.layout.slots.len();
        if index == MAX_ENTRIES {
            return None;
        }
        let name = self.store(name)?;
        let kind = match object {
            Object::Regular { executable, size, offset } => Kind::Regular { executable, size, offset },
            Object::Symlink { target } => Kind::Symlink { target: self.store(target)? },
            Object::Directory => {
                self.open.push(index);
                Kind::Directory
            }
        };
        self.layout.slots.push(Slot { name, kind, end: index + 1 });
        Some(())
    }

    fn store(&mut self, bytes: &[u8]) -> Option<Text> {
        let start = self.layout.text.len();
        if start + bytes.len() > MAX_TEXT {
            return None;
        }
        self.layout.text.extend_from_slice(bytes);
        Some(Text { start: u32::try_from(start).ok()?, length: u16::try_from(bytes.len()).ok()? })
    }
}

impl Default for LayoutBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// Iterator of the events of a [`Layout`].
#[derive(Debug, Clone)]
pub struct Events<'a> {
    layout: &'a Layout,
    cursor: Cursor,
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        self.cursor.next(self.layout)
    }
}

impl FusedIterator for Events<'_> {}

/// Position between two events of a layout, at first before all of them. Borrows nothing.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    at: usize,
    /// End of each open directory.
    open: Vec<usize>,
}

impl Cursor {
    /// Moves past the next event and returns it, or `None` at the end. `layout` must be the one of the calls before.
    pub fn next<'a>(&mut self, layout: &'a Layout) -> Option<Event<'a>> {
        if self.open.last() == Some(&self.at) {
            self.open.pop();
            return Some(Event::EndDirectory);
        }
        let slot = layout.slots.get(self.at)?;
        let name = (self.at > 0).then(|| layout.text(slot.name));
        let object = layout.object(slot);
        if object == Object::Directory {
            self.open.push(slot.end);
        }
        self.at += 1;
        Some(Event::Object { name, object })
    }
}
