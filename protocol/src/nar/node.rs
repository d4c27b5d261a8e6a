//! A file tree in memory.

use std::collections::{BTreeMap, btree_map};

use bytes::{BufMut, Bytes, BytesMut};

use super::error::NarError;
use super::event::{Event, Object};
use super::name::{Name, Target};
use super::parser::parse;
use super::writer::Writer;

/// A file tree. It can hold what a NAR can, and directories that nest deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
///
/// Parsing, encoding and dropping do not recurse; the derived traits do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    Regular {
        /// Whether the execute bit of its mode is set.
        executable: bool,
        /// Contents.
        contents: Bytes,
    },
    /// A symbolic link.
    Symlink {
        /// Target.
        target: Target,
    },
    /// A directory, in the order of a NAR.
    Directory(BTreeMap<Name, Node>),
}

impl Node {
    /// Appends the NAR of this tree to `nar`.
    pub fn encode(&self, nar: &mut BytesMut) {
        let mut writer = Writer::new();
        // Directories whose entries are being written. On the heap, since trees may be deep.
        let mut open = Vec::new();
        open.extend(self.put(None, &mut writer, nar));
        while let Some(entries) = open.last_mut() {
            if let Some((name, node)) = entries.next() {
                open.extend(node.put(Some(name), &mut writer, nar));
            } else {
                open.pop();
                writer.put(Event::EndDirectory, nar);
            }
        }
    }

    /// Parses a complete NAR in memory.
    pub fn parse(nar: &[u8]) -> Result<Self, NarError> {
        let mut root = None;
        // Open directories with their names.
        let mut open: Vec<(Option<Name>, BTreeMap<Name, Node>)> = Vec::new();
        parse(nar, &mut |event| {
            let (name, node) = match event {
                Event::Object { name, object } => {
                    let name = name.map(Name::checked);
                    match object {
                        Object::Regular { executable, size, offset } => {
                            (name, Node::Regular { executable, contents: slice(nar, offset, size) })
                        }
                        Object::Symlink { target } => (name, Node::Symlink { target: Target::checked(target) }),
                        Object::Directory => return open.push((name, BTreeMap::new())),
                    }
                }
                Event::EndDirectory => match open.pop() {
                    Some((name, entries)) => (name, Node::Directory(entries)),
                    None => return,
                },
            };
            match (name, open.last_mut()) {
                (Some(name), Some((_, entries))) => {
                    entries.insert(name, node);
                }
                _ => root = Some(node),
            }
        })?;
        root.ok_or(NarError::Truncated)
    }

    /// Writes a file or symlink, or the start of a directory, whose entries are returned.
    fn put(
        &self,
        name: Option<&Name>,
        writer: &mut Writer,
        nar: &mut BytesMut,
    ) -> Option<btree_map::Iter<'_, Name, Node>> {
        let object = match self {
            Node::Regular { executable, contents } => {
                Object::Regular { executable: *executable, size: contents.len() as u64, offset: 0 }
            }
            Node::Symlink { target } => Object::Symlink { target: target.as_bytes() },
            Node::Directory(_) => Object::Directory,
        };
        writer.put(Event::Object { name: name.map(Name::as_bytes), object }, nar);
        match self {
            Node::Regular { contents, .. } => {
                nar.put_slice(contents);
                writer.end_file(contents.len() as u64, nar);
                None
            }
            Node::Symlink { .. } => None,
            Node::Directory(entries) => Some(entries.iter()),
        }
    }
}

impl Drop for Node {
    /// Takes the tree apart from the top, since the recursion of a derived drop may exceed the stack.
    fn drop(&mut self) {
        let Node::Directory(entries) = self else {
            return;
        };
        let mut rest: Vec<Node> = std::mem::take(entries).into_values().collect();
        while let Some(mut node) = rest.pop() {
            if let Node::Directory(entries) = &mut node {
                rest.extend(std::mem::take(entries).into_values());
            }
        }
    }
}

/// Returns the contents of a file. They may be truncated, since an event precedes the check of its contents.
fn slice(nar: &[u8], offset: u64, size: u64) -> Bytes {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(nar.len());
    let end = usize::try_from(offset.saturating_add(size)).unwrap_or(usize::MAX).min(nar.len());
    Bytes::copy_from_slice(&nar[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nar::limits::MAX_DEPTH;
    use crate::nar::writer::put_token;

    #[test]
    fn the_smallest_nar_is_written_by_the_book() {
        let node = Node::Regular { executable: false, contents: Bytes::from_static(b"hi\n") };
        let mut nar = BytesMut::new();
        node.encode(&mut nar);
        let expected = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0type\0\0\0\0\x07\0\0\0\0\0\0\0regular\0\x08\0\0\0\0\0\0\0contents\
            \x03\0\0\0\0\0\0\0hi\n\0\0\0\0\0\x01\0\0\0\0\0\0\0)\0\0\0\0\0\0\0";
        assert_eq!(nar, expected[..]);
        assert_eq!(Node::parse(&nar), Ok(node));
    }

    #[test]
    fn a_directory_is_written_with_its_entries_in_order() {
        let name = |name: &[u8]| Name::new(name).unwrap();
        let node = Node::Directory(BTreeMap::from([
            (name(b"b"), Node::Symlink { target: Target::new(b"a").unwrap() }),
            (name(b"a"), Node::Directory(BTreeMap::new())),
            (name(b"B"), Node::Regular { executable: true, contents: Bytes::new() }),
        ]));
        let mut nar = BytesMut::new();
        node.encode(&mut nar);
        let mut expected = BytesMut::new();
        // Two spaces stand around an empty token.
        let tokens = "nix-archive-1 ( type directory \
             entry ( name B node ( type regular executable  contents  ) ) \
             entry ( name a node ( type directory ) ) \
             entry ( name b node ( type symlink target a ) ) )";
        for token in tokens.split(' ') {
            put_token(&mut expected, token.as_bytes());
        }
        assert_eq!(nar, expected);
        assert_eq!(Node::parse(&nar), Ok(node));
    }

    #[test]
    fn the_deepest_tree_needs_little_stack() {
        let work = || {
            let mut node = Node::Directory(BTreeMap::new());
            for _ in 1..MAX_DEPTH {
                node = Node::Directory(BTreeMap::from([(Name::new(b"d").unwrap(), node)]));
            }
            let (mut nar, mut again) = (BytesMut::new(), BytesMut::new());
            node.encode(&mut nar);
            Node::parse(&nar).unwrap().encode(&mut again);
            assert_eq!(nar, again);

            let deeper = Node::Directory(BTreeMap::from([(Name::new(b"d").unwrap(), node)]));
            again.clear();
            deeper.encode(&mut again);
            assert!(matches!(Node::parse(&again), Err(NarError::TooDeep { .. })));
        };
        std::thread::Builder::new().stack_size(128 << 10).spawn(work).unwrap().join().unwrap();
    }
}
