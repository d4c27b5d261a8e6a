//! The listing of a NAR as JSON, rendered while it is sent: only one piece is in memory.
//!
//! The format is version 1 of Nix's (`src/libutil/nar-accessor.cc` of 2.34), with its order of keys. The body ends cleanly
//! only if the NAR was verified.
//!
//! JSON is Unicode, and names of files are bytes. What is not UTF-8 in a name or target becomes the replacement character,
//! as in harmonia 3.2: Nix 2.34 refuses to list such a NAR, and the raw bytes that Nix 2.8 wrote make the document invalid,
//! so that its readers lose every file instead of one.

use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use harmonia_protocol::nar::{Event, Object};
use hyper::body::{Body, Frame};
use zstd::stream::write::Encoder;

use crate::fairness::Permit;
use crate::nar_cache::HEAD_DELAY;
use crate::store::{NarEvents, StoreError};

/// Smallest piece that is sent before the end, in bytes. A chunk of a NAR is rendered into at most seven times its size.
const MIN_PIECE: usize = 32 << 10;

/// Body with a listing.
pub(crate) struct ListingBody {
    /// `None` after the end or an error.
    events: Option<NarEvents>,
    renderer: Renderer,
    encoder: Option<Encoder<'static, Vec<u8>>>,
    /// Text that is ready to be sent.
    piece: Vec<u8>,
    /// Held until the body is dropped.
    permit: Permit,
}

impl ListingBody {
    /// Creates a listing of the NAR with these events, compressed if there is an encoder.
    pub(crate) fn new(events: NarEvents, encoder: Option<Encoder<'static, Vec<u8>>>, permit: Permit) -> Self {
        Self { events: Some(events), renderer: Renderer::default(), encoder, piece: Vec::new(), permit }
    }

    /// Calls `see` with each permit that the body holds.
    pub(crate) fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        see(&self.permit);
        if let Some(events) = &self.events {
            see(events.permit());
        }
    }

    /// Waits until the first bytes are there, or all of a short listing, for up to [`HEAD_DELAY`]. An error until then becomes
    /// a status, a later one can only break the body.
    pub(crate) async fn wait_for_start(&mut self) -> Result<(), StoreError> {
        let started = std::future::poll_fn(|context| self.poll_advance(context).map_ok(drop));
        tokio::time::timeout(HEAD_DELAY, started).await.unwrap_or(Ok(()))
    }

    /// Renders the next chunk of the NAR. Returns whether more may follow.
    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, StoreError>> {
        let Some(events) = &mut self.events else { return Poll::Ready(Ok(false)) };
        let advanced = ready!(events.poll_next(context, &mut |event| self.renderer.event(event)));
        let advanced = advanced.and_then(|is_more| self.append(is_more).map(|()| is_more));
        if !matches!(advanced, Ok(true)) {
            self.events = None;
        }
        Poll::Ready(advanced)
    }

    /// Moves rendered text into the piece.
    fn append(&mut self, is_more: bool) -> Result<(), StoreError> {
        if !is_more {
            self.renderer.end();
        }
        let mut text = std::mem::take(&mut self.renderer.text);
        let Some(encoder) = &mut self.encoder else {
            self.piece.append(&mut text);
            return Ok(());
        };
        let result = encoder.write_all(&text).and_then(|()| if is_more { Ok(()) } else { encoder.do_finish() });
        self.piece.append(encoder.get_mut());
        result.map_err(|cause| StoreError::file(Path::new("a listing"), &cause))
    }
}

impl Body for ListingBody {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let this = self.get_mut();
        while this.piece.len() < MIN_PIECE && this.events.is_some() {
            match this.poll_advance(context) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending if this.piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let piece = std::mem::take(&mut this.piece);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_none() && self.piece.is_empty()
    }
}

/// Returns the length of a listing in bytes, by rendering it.
pub(crate) async fn length(mut events: NarEvents) -> Result<u64, StoreError> {
    let (mut renderer, mut length) = (Renderer::default(), 0);
    while std::future::poll_fn(|context| events.poll_next(context, &mut |event| renderer.event(event))).await? {
        length += renderer.text.len() as u64;
        renderer.text.clear();
    }
    renderer.end();
    Ok(length + renderer.text.len() as u64)
}

/// Renders events as JSON.
struct Renderer {
    text: Vec<u8>,
    /// Whether the next entry is the first one of its directory.
    is_first: bool,
}

impl Default for Renderer {
    fn default() -> Self {
        Self { text: b"{\"root\":".to_vec(), is_first: true }
    }
}

impl Renderer {
    fn event(&mut self, event: Event<'_>) {
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

    fn end(&mut self) {
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
        let mut renderer = Renderer::default();
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
