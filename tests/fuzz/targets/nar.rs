//! NARs: events, errors and the end do not depend on how they come cut, what is taken for a NAR is what the writer makes
//! of its tree, and the index finds all that is in it.

use bytes::BytesMut;
use harmonia_protocol::nar::{Event, Feed, Layout, NarError, Node, Object, Parser};

use super::{Parameters, ends};

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    let (limit, piece) = (parameters.byte(), parameters.piece());
    let bytes = parameters.rest();
    let limit = match limit {
        0 => u64::MAX,
        1 => bytes.len() as u64,
        words => u64::from(words) * 8,
    };
    let whole = fed(bytes, limit, bytes.len().max(1));
    assert_eq!(fed(bytes, limit, piece), whole, "in pieces of {piece}");
    if let (Ok(Feed::Finished { consumed }), ..) = whole {
        assert!(consumed as u64 <= limit);
        assert_eq!(fed(&bytes[..consumed - 1], limit, piece).0, Ok(Feed::More), "it ends before its last byte");
        is_one_tree(&bytes[..consumed], &whole.1);
    }
    assert_eq!(Node::parse(bytes).err(), Layout::from_nar(bytes).err());
}

/// Returns the outcome, the events, and the parser's offset.
fn fed(bytes: &[u8], limit: u64, piece: usize) -> (Result<Feed, NarError>, Vec<String>, u64) {
    let mut parser = Parser::new(limit);
    let mut events = Vec::new();
    let mut start = 0;
    for end in ends(bytes.len(), piece) {
        let fed = parser.feed(&bytes[start..end], &mut |event: Event<'_>| events.push(format!("{event:?}")));
        assert_eq!(parser.is_finished(), matches!(fed, Ok(Feed::Finished { .. })));
        match fed {
            Ok(Feed::More) => start = end,
            Ok(Feed::Finished { consumed }) => {
                return (Ok(Feed::Finished { consumed: start + consumed }), events, parser.offset());
            }
            Ok(Feed::ErrorFrame { consumed }) => {
                return (Ok(Feed::ErrorFrame { consumed: start + consumed }), events, parser.offset());
            }
            // The error tells the offset; how far the parser got depends on the cut.
            Err(error) => return (Err(error), events, 0),
        }
    }
    (Ok(Feed::More), events, parser.offset())
}

fn is_one_tree(nar: &[u8], told: &[String]) {
    let mut again = BytesMut::new();
    Node::parse(nar).expect("a complete nar").encode(&mut again);
    assert_eq!(again, nar, "another nar of the same tree");

    let layout = Layout::from_nar(nar).expect("a complete nar");
    let events: Vec<_> = layout.events().map(|event| format!("{event:?}")).collect();
    assert_eq!(events, told, "the index says something else");
    let mut path: Vec<Vec<u8>> = Vec::new();
    for event in layout.events() {
        let Event::Object { name, object } = event else {
            path.pop();
            continue;
        };
        path.extend(name.map(<[u8]>::to_vec));
        let found = layout.find(path.iter().map(Vec::as_slice));
        assert_eq!(found, Some(object), "at {path:?}");
        if let Object::Regular { size, offset, .. } = object {
            assert!(offset + size <= nar.len() as u64, "contents beyond the end");
        }
        if object != Object::Directory {
            path.pop();
        }
    }
}
