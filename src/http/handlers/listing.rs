//! `/<hash>.ls`: what is in the NAR of a path, and where.
//!
//! Owns the JSON, version 1 of Nix's format (`src/libutil/nar-accessor.cc` of 2.34, whose order of keys is kept). The
//! index comes from the NAR, whether its store is visible here or not, and only from one with the size and the hash of the
//! path info.
//!
//! JSON is Unicode and names of files are bytes. A NAR with a name or target that is not UTF-8 has no listing, 404:
//! Nix 2.34 refuses to make one, and the raw bytes that Nix 2.8 wrote make its whole document invalid, so that readers
//! lose every file instead of one. Nor has a NAR that is too large for an index.

use std::io::{self, Write as _};

use harmonia_protocol::HashPart;
use harmonia_protocol::nar::{Event, Layout, Object};
use hyper::StatusCode;
use hyper::header::HeaderMap;

use super::super::App;
use super::super::error::HandlerError;
use super::super::response::{Keep, Reply, refusal};
use crate::client::Client;

/// Answers a request for the listing of the path with this hash part.
pub(in crate::http) async fn respond(
    app: &App,
    headers: &HeaderMap,
    hash: HashPart,
    client: Client,
) -> Result<Reply, HandlerError> {
    let Some(valid) = app.valid_path(hash, client).await? else { return Ok(refusal(StatusCode::NOT_FOUND)) };
    let mut nar = app.store.nar_to_index(&valid, client).await?;
    let Some(layout) = nar.layout().await? else { return Ok(refusal(StatusCode::NOT_FOUND)) };
    // The largest packages take a tenth of a second, which other requests need not wait for.
    let reply = tokio::task::block_in_place(|| {
        let text = render(&layout)?;
        Some(app.text(headers, Keep::AnHour, "application/json", text.into()))
    });
    let Some(reply) = reply else { return Ok(refusal(StatusCode::NOT_FOUND)) };
    // Its connection or memory is the place that the text keeps among the NARs which are read at one time.
    Ok(reply.map(|body| body.holding(nar)))
}

/// The listing; `None` if a name or a target is not UTF-8.
fn render(layout: &Layout) -> Option<Vec<u8>> {
    let mut json = b"{\"root\":".to_vec();
    // Whether the next entry is the first one of its directory.
    let mut first = true;
    for event in layout.events() {
        match event {
            Event::Object { name, object } => {
                if let Some(name) = name {
                    if !first {
                        json.push(b',');
                    }
                    string(&mut json, name)?;
                    json.push(b':');
                }
                node(&mut json, object)?;
                first = object == Object::Directory;
            }
            Event::EndDirectory => {
                json.extend_from_slice(b"},\"type\":\"directory\"}");
                first = false;
            }
        }
    }
    json.extend_from_slice(b",\"version\":1}");
    Some(json)
}

/// An object; of a directory all that stands before its entries.
fn node(json: &mut Vec<u8>, object: Object<'_>) -> Option<()> {
    match object {
        Object::Regular { executable, size, offset } => {
            let (start, end) = (r#"{"executable":"#, r#","type":"regular"}"#);
            write!(json, r#"{start}{executable},"narOffset":{offset},"size":{size}{end}"#).ok()
        }
        Object::Symlink { target } => {
            json.extend_from_slice(b"{\"target\":");
            string(json, target)?;
            json.extend_from_slice(b",\"type\":\"symlink\"}");
            Some(())
        }
        Object::Directory => {
            json.extend_from_slice(b"{\"entries\":{");
            Some(())
        }
    }
}

fn string(json: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::to_writer(json, text).map_err(io::Error::from).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use bytes::BytesMut;
    use harmonia_protocol::nar::{Name, Node, Target};

    fn listing(tree: &Node) -> Option<String> {
        let mut nar = BytesMut::new();
        tree.encode(&mut nar);
        render(&Layout::of(&nar).unwrap()).map(|json| String::from_utf8(json).unwrap())
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
        let root = |node: &Node| listing(node).unwrap();
        let regular = |executable, offset, size| {
            format!(
                r#"{{"root":{{"executable":{executable},"narOffset":{offset},"size":{size},"type":"regular"}},"version":1}}"#
            )
        };
        assert_eq!(root(&file(false, "abc")), regular(false, 96, 3));
        assert_eq!(root(&file(true, "")), regular(true, 128, 0));
        assert_eq!(root(&symlink(b"/a\"b")), r#"{"root":{"target":"/a\"b","type":"symlink"},"version":1}"#);
        assert_eq!(
            root(&Node::Directory(BTreeMap::new())),
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
        assert_eq!(listing(&tree).unwrap(), format!(r#"{{"root":{root},"version":1}}"#));
    }

    #[test]
    fn names_and_targets_that_are_not_unicode_have_no_listing() {
        assert_eq!(listing(&directory([(b"latin-1 \xe9", file(false, ""))])), None);
        assert_eq!(listing(&symlink(b"\xff")), None);
    }
}
