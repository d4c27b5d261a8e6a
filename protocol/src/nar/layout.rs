//! The index of a NAR: its objects, and where the contents of files are.
//!
//! Kept flat, in the order of the NAR, with a link past each directory's entries: one allocation
//! that grows instead of one per object, and nothing recurses, however deep the tree.

use std::iter::FusedIterator;

use super::error::NarError;
use super::event::{Event, Object};
use super::limits::{MAX_ENTRIES, MAX_TEXT};
use super::parser::parse;

/// The tree of a complete NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// In the order of the NAR: a directory, then all that is in it. Never empty: the root comes
    /// first.
    slots: Vec<Slot>,
    /// Names and targets, which the slots point into.
    text: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    /// Empty at the root only.
    name: Text,
    kind: Kind,
    /// The slot after this object and all that is in it.
    end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Regular { executable: bool, size: u64, offset: u64 },
    Symlink { target: Text },
    Directory,
}

/// A range of [`Layout::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Text {
    start: u32,
    length: u16,
}

impl Layout {
    /// Indexes a NAR that is in memory.
    pub fn from_nar(nar: &[u8]) -> Result<Self, NarError> {
        let mut builder = LayoutBuilder::new();
        parse(nar, &mut |event| builder.push(event))?;
        builder.finish()
    }

    /// What `path` names, as names from the root down; the root itself if it is empty. Symlinks are
    /// not followed.
    ///
    /// Costs a comparison for each entry that sorts before the wanted one in its directory.
    #[must_use]
    pub fn find<'p>(&self, path: impl IntoIterator<Item = &'p [u8]>) -> Option<Object<'_>> {
        let mut found = 0;
        for name in path {
            found = self.child(found, name)?;
        }
        Some(self.object(&self.slots[found]))
    }

    /// The events of the NAR that this is the index of, in their order.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { layout: self, cursor: Cursor::default() }
    }

    /// The memory that it takes, in bytes.
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

/// Makes a [`Layout`] of the events of a [`Parser`](super::Parser), while the NAR streams by.
#[derive(Debug)]
pub struct LayoutBuilder {
    layout: Layout,
    /// Slots of the directories whose end has not come.
    open: Vec<usize>,
    too_many: bool,
}

impl LayoutBuilder {
    /// Starts before the first event.
    #[must_use]
    pub fn new() -> Self {
        let layout = Layout { slots: Vec::new(), text: Vec::new() };
        Self { layout, open: Vec::new(), too_many: false }
    }

    /// Takes the next event. What a layout cannot hold is remembered for [`finish`](Self::finish),
    /// so that the NAR can stream on.
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

    /// The memory that the layout takes so far, in bytes.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.layout.heap_size()
    }

    /// The layout, when all events of a complete NAR have been taken.
    ///
    /// Fails with [`NarError::TooManyEntries`] if the NAR has more than a layout holds, and with
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

/// The events of a [`Layout`].
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

/// A place between two events of a layout, at first before all of them. It borrows nothing.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    at: usize,
    /// Where each open directory ends.
    open: Vec<usize>,
}

impl Cursor {
    /// Steps over the event after it, of the layout that all those before were of; `None` at the end.
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
