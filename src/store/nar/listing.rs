//! Listing of a NAR as JSON: version 1 of Nix's format (`src/libutil/nar-accessor.cc` of 2.34), with its order of keys.
//!
//! JSON is Unicode, and names of files are bytes. What is not UTF-8 in a name or target becomes the replacement character,
//! as in harmonia 3.2: Nix 2.34 refuses to list such a NAR, and the raw bytes that Nix 2.8 wrote make the document invalid,
//! so that its readers lose every file instead of one.

use std::future::poll_fn;
use std::io::Write as _;
use std::sync::Arc;

use harmonia_protocol::nar::{Event, Object};

use crate::fairness::ClientId;
use crate::store::error::StoreError;
use crate::store::path_info::valid_path::ValidPath;
use crate::store::state::Store;

impl Store {
    /// Returns the listing of a path whose NAR was verified; `None` if it is longer than `max` bytes.
    #[cfg_attr(not(feature = "bucket"), allow(dead_code, reason = "the bucket needs it"))]
    pub(crate) async fn listing(
        &self,
        valid: &Arc<ValidPath>,
        max: usize,
        client: ClientId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut events, mut renderer) = (self.nar_events(valid, client).await?, ListingRenderer::default());
        while poll_fn(|context| events.poll_next(context, &mut |event| renderer.event(event))).await? {
            if renderer.text.len() > max {
                return Ok(None);
            }
        }
        renderer.end();
        Ok(Some(renderer.text).filter(|text| text.len() <= max))
    }
}

/// Renders the events of a NAR as JSON.
pub(crate) struct ListingRenderer {
    /// Text so far, which its reader takes.
    pub(crate) text: Vec<u8>,
    /// Whether the next entry is the first one of its directory.
    is_first: bool,
}

impl Default for ListingRenderer {
    fn default() -> Self {
        Self { text: b"{\"root\":".to_vec(), is_first: true }
    }
}

impl ListingRenderer {
    /// Renders an event.
    pub(crate) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Object { name, object } => {
                if let Some(name) = name {
                    if !self.is_first {
                        self.text.push(b',');
                    }
                    self.string(name);
                    self.text.push(b':');
                }
                self.node(object);
                self.is_first = object == Object::Directory;
            }
            Event::EndDirectory => {
                self.text.extend_from_slice(b"},\"type\":\"directory\"}");
                self.is_first = false;
            }
        }
    }

    /// Renders the end, after the last event.
    pub(crate) fn end(&mut self) {
        self.text.extend_from_slice(b",\"version\":1}");
    }

    /// Renders an object, of a directory only what precedes its entries.
    fn node(&mut self, object: Object<'_>) {
        match object {
            Object::Regular { executable, size, offset } => {
                let (start, end) = (r#"{"executable":"#, r#","type":"regular"}"#);
                // Writing to memory does not fail.
                let _ = write!(self.text, r#"{start}{executable},"narOffset":{offset},"size":{size}{end}"#);
            }
            Object::Symlink { target } => {
                self.text.extend_from_slice(b"{\"target\":");
                self.string(target);
                self.text.extend_from_slice(b",\"type\":\"symlink\"}");
            }
            Object::Directory => self.text.extend_from_slice(b"{\"entries\":{"),
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        let _ = serde_json::to_writer(&mut self.text, &String::from_utf8_lossy(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use bytes::BytesMut;
    use harmonia_protocol::nar::{Layout, Name, Node, Target};

    fn listing(tree: &Node) -> String {
        let mut nar = BytesMut::new();
        tree.encode(&mut nar);
        let mut renderer = ListingRenderer::default();
        Layout::from_nar(&nar).unwrap().events().for_each(|event| renderer.event(event));
        renderer.end();
        String::from_utf8(renderer.text).unwrap()
    }

    fn directory<const N: usize>(entries: [(&[u8], Node); N]) -> Node {
        Node::Directory(entries.into_iter().map(|(name, node)| (Name::new(name).unwrap(), node)).collect())
    }

    fn file(executable: bool, contents: &'static str) -> Node {
        Node::Regular { executable, contents: contents.into() }
    }

    fn symlink(target: &[u8]) -> Node {
        Node::Symlink { target: Target::new(target).unwrap() }
    }

    #[test]
    fn a_root_of_each_kind_is_listed_as_nix_lists_it() {
        let regular = |executable, offset, size| {
            format!(
                r#"{{"root":{{"executable":{executable},"narOffset":{offset},"size":{size},"type":"regular"}},"version":1}}"#
            )
        };
        assert_eq!(listing(&file(false, "abc")), regular(false, 96, 3));
        assert_eq!(listing(&file(true, "")), regular(true, 128, 0));
        assert_eq!(listing(&symlink(b"/a\"b")), r#"{"root":{"target":"/a\"b","type":"symlink"},"version":1}"#);
        assert_eq!(
            listing(&Node::Directory(BTreeMap::new())),
            r#"{"root":{"entries":{},"type":"directory"},"version":1}"#
        );
    }

    #[test]
    fn entries_of_nested_directories_are_separated_and_in_byte_order() {
        let empty = || Node::Directory(BTreeMap::new());
        let tree = directory([
            (b"a.b", empty()),
            (b"B", directory([(b"x", empty()), (b"y\n\x1f", symlink(b"z"))])),
            (b"a", empty()),
            ("größe".as_bytes(), empty()),
        ]);
        let empty = r#"{"entries":{},"type":"directory"}"#;
        let b = format!(
            r#"{{"entries":{{"x":{empty},"y\n\u001f":{{"target":"z","type":"symlink"}}}},"type":"directory"}}"#
        );
        let root = format!(r#"{{"entries":{{"B":{b},"a":{empty},"a.b":{empty},"größe":{empty}}},"type":"directory"}}"#);
        assert_eq!(listing(&tree), format!(r#"{{"root":{root},"version":1}}"#));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_listed_as_replacement_characters() {
        let listed = listing(&directory([(b"latin-1 \xe9", symlink(b"\xff"))]));
        let entries = r#"{"latin-1 ?":{"target":"?","type":"symlink"}}"#.replace('?', "\u{fffd}");
        assert_eq!(listed, format!(r#"{{"root":{{"entries":{entries},"type":"directory"}},"version":1}}"#));
    }
}
