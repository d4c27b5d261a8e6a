//! The JSON of a listing, rendered while it is sent: nothing of it is in memory but the piece that is on its way.
//!
//! Owns the JSON, version 1 of Nix's format (`src/libutil/nar-accessor.cc` of 2.34, whose order of keys is kept). It ends
//! cleanly only when the NAR has been proven.
//!
//! JSON is Unicode and names of files are bytes. What is not UTF-8 in a name or target becomes the replacement character,
//! as harmonia 3.2 has it: Nix 2.34 refuses to list such a NAR, and the raw bytes that Nix 2.8 wrote make its whole
//! document invalid, so that readers lose every file instead of one.

use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use harmonia_protocol::nar::{Event, Object};
use hyper::body::{Body, Frame};
use zstd::stream::write::Encoder;

use crate::fairness::Permit;
use crate::store::{NarEvents, StoreError};

/// How long a response waits for the first of its NAR: what goes wrong up to then is told in its head.
const LONGEST_BEGINNING: Duration = Duration::from_millis(500);
/// Bytes that are worth sending by themselves. A piece of a NAR makes seven times its size at the most.
const PIECE: usize = 32 << 10;

/// The bytes of a listing.
pub struct ListingBody {
    /// Nothing after the end, or an error.
    events: Option<NarEvents>,
    renderer: Renderer,
    encoder: Option<Encoder<'static, Vec<u8>>>,
    /// What may be sent.
    piece: Vec<u8>,
    /// Kept until the body is gone.
    slot: Permit,
}

impl ListingBody {
    /// A listing of the NAR of these events, as it is or through `encoder`.
    pub(super) fn new(events: NarEvents, encoder: Option<Encoder<'static, Vec<u8>>>, slot: Permit) -> Self {
        Self { events: Some(events), renderer: Renderer::default(), encoder, piece: Vec::new(), slot }
    }

    /// Shows what it holds of what is scarce.
    pub(super) fn each_permit(&self, see: &mut dyn FnMut(&Permit)) {
        see(&self.slot);
        if let Some(events) = &self.events {
            see(events.permit());
        }
    }

    /// Waits until the NAR has begun, or a short one has been proven, but not for long.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        let begun = std::future::poll_fn(|context| self.poll_advance(context).map_ok(drop));
        tokio::time::timeout(LONGEST_BEGINNING, begun).await.unwrap_or(Ok(()))
    }

    /// Takes up what comes next of the NAR; whether there may be more after it.
    fn poll_advance(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, StoreError>> {
        let Some(events) = &mut self.events else { return Poll::Ready(Ok(false)) };
        let advanced = ready!(events.poll_next(context, &mut |event| self.renderer.event(event)));
        let advanced = advanced.and_then(|is_more| self.take_up(is_more).map(|()| is_more));
        if !matches!(advanced, Ok(true)) {
            self.events = None;
        }
        Poll::Ready(advanced)
    }

    /// Takes what has been rendered into the piece.
    fn take_up(&mut self, is_more: bool) -> Result<(), StoreError> {
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
        while this.piece.len() < PIECE && this.events.is_some() {
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

/// The length of a listing in bytes, for those who have no other way to tell its end from a broken connection.
pub(super) async fn length(mut events: NarEvents) -> Result<u64, StoreError> {
    let (mut renderer, mut length) = (Renderer::default(), 0);
    while std::future::poll_fn(|context| events.poll_next(context, &mut |event| renderer.event(event))).await? {
        length += renderer.text.len() as u64;
        renderer.text.clear();
    }
    renderer.end();
    Ok(length + renderer.text.len() as u64)
}

/// Makes JSON of events.
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

    /// An object; of a directory all that stands before its entries.
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
    fn a_root_of_each_kind_has_nixs_words_and_the_offset_of_its_contents() {
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
    fn what_is_not_unicode_is_listed_with_replacement_characters() {
        let listed = listing(&directory([(b"latin-1 \xe9", symlink(b"\xff"))]));
        let entries = r#"{"latin-1 ?":{"target":"?","type":"symlink"}}"#.replace('?', "\u{fffd}");
        assert_eq!(listed, format!(r#"{{"root":{{"entries":{entries},"type":"directory"}},"version":1}}"#));
    }
}
