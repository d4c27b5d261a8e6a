//! Properties of every NAR: parser, writer and index together.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::nar::{Event, Feed, Layout, LayoutBuilder, Name, NarError, Node, Object, Parser, Segment, Segments, Target};

const ERROR_TAG: &[u8] = b"ptxc\0\0\0\0";

fn names() -> impl Strategy<Value = Name> {
    // Few letters, so that names share prefixes; among them such as sort around the separators of
    // paths.
    let letters = prop::sample::select(&b"-.ABab\x01\x7f\xff"[..]);
    vec(letters, 1..4).prop_filter_map("reserved", |bytes| Name::new(&bytes).ok())
}

fn nodes() -> impl Strategy<Value = Node> {
    let target = vec(1..=255u8, 1..20).prop_filter_map("not a target", |bytes| Target::new(&bytes).ok());
    let leaf = prop_oneof![
        (any::<bool>(), vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Node::Regular { executable, contents: Bytes::from(contents) }),
        target.prop_map(|target| Node::Symlink { target }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| btree_map(names(), inner, 0..4).prop_map(Node::Directory))
}

fn encoded(node: &Node) -> BytesMut {
    let mut nar = BytesMut::new();
    node.encode(&mut nar);
    nar
}

/// Feeds `nar` cut at `cuts`, and returns how it ends, the events, and the parser's offset.
fn fed(nar: &[u8], limit: usize, cuts: impl IntoIterator<Item = usize>) -> (Result<Feed, NarError>, Vec<String>, u64) {
    let mut parser = Parser::new(limit as u64);
    let mut events = Vec::new();
    let mut from = 0;
    for to in cuts.into_iter().chain([nar.len()]) {
        let mut fed = parser.feed(&nar[from..to], &mut |event: Event<'_>| {
            events.push(format!("{event:?}"));
        });
        assert_eq!(parser.is_finished(), matches!(fed, Ok(Feed::Finished { .. })));
        if let Ok(Feed::Finished { consumed } | Feed::ErrorFrame { consumed }) = &mut fed {
            *consumed += from;
        }
        if fed != Ok(Feed::More) || to == nar.len() {
            // Of a refused NAR the error tells the offset; how far the parser got depends on the cut.
            let offset = if fed.is_ok() { parser.offset() } else { 0 };
            return (fed, events, offset);
        }
        from = to;
    }
    unreachable!("the last piece ends where the nar does")
}

/// Returns the range of each token with its length and padding; the contents of a file count as a token.
fn tokens(nar: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < nar.len() {
        let length = u64::from_le_bytes(nar[at..at + 8].try_into().unwrap());
        let end = at + 8 + usize::try_from(length).unwrap().next_multiple_of(8);
        tokens.push(at..end);
        at = end;
    }
    tokens
}

fn cut_anywhere(length: usize, seeds: Vec<prop::sample::Index>) -> Vec<usize> {
    let mut cuts: Vec<_> = seeds.into_iter().map(|seed| seed.index(length + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn a_tree_survives_its_nar(node in nodes()) {
        prop_assert_eq!(Node::parse(&encoded(&node)), Ok(node));
    }

    #[test]
    fn any_cut_gives_the_same_events(node in nodes(), seeds in vec(any::<prop::sample::Index>(), 0..20)) {
        let mut nar = encoded(&node);
        let length = nar.len();
        nar.extend_from_slice(b"the next reply");
        let whole = fed(&nar, length, []);
        prop_assert_eq!(&whole.0, &Ok(Feed::Finished { consumed: length }));
        prop_assert_eq!(whole.2, length as u64);
        prop_assert_eq!(&whole, &fed(&nar, length, 1..nar.len()));
        prop_assert_eq!(&whole, &fed(&nar, length, cut_anywhere(nar.len(), seeds)));
    }

    #[test]
    fn every_strict_prefix_needs_more(node in nodes()) {
        let nar = encoded(&node);
        for end in 0..nar.len() {
            prop_assert_eq!(fed(&nar[..end], nar.len(), []).0, Ok(Feed::More));
            prop_assert!(Node::parse(&nar[..end]).is_err());
        }
    }

    #[test]
    fn a_changed_byte_is_told_alike_for_any_cut(node in nodes(), at: prop::sample::Index, flip in 1..=255u8) {
        let mut nar = encoded(&node);
        let at = at.index(nar.len());
        nar[at] ^= flip;
        prop_assert_eq!(fed(&nar, nar.len(), []), fed(&nar, nar.len(), 1..nar.len()));
        // Other contents, names and targets are well-formed; all else must be refused.
        if let Ok(node) = Node::parse(&nar) {
            prop_assert_eq!(encoded(&node), nar);
        }
    }

    #[test]
    fn an_error_frame_is_found_at_every_token(node in nodes(), seeds in vec(any::<prop::sample::Index>(), 0..4)) {
        let nar = encoded(&node);
        for token in tokens(&nar) {
            let broken = [&nar[..token.start], ERROR_TAG, b"\x05\0\0\0\0\0\0\0Error\0\0\0"].concat();
            let expected = Ok(Feed::ErrorFrame { consumed: token.start + 8 });
            let cuts = cut_anywhere(broken.len(), seeds.clone());
            for (fed, _, offset) in [
                fed(&broken, nar.len(), []),
                fed(&broken, nar.len(), 1..broken.len()),
                fed(&broken, nar.len(), [token.start + 3]),
                fed(&broken, nar.len(), cuts),
            ] {
                prop_assert_eq!(&fed, &expected);
                prop_assert_eq!(offset, token.start as u64);
            }
        }
    }

    #[test]
    fn a_nar_past_its_size_is_refused(node in nodes(), short in 1..16usize) {
        let nar = encoded(&node);
        let (fed, ..) = fed(&nar, nar.len() - short, []);
        prop_assert!(matches!(fed, Err(NarError::PastEnd { .. })), "{:?}", fed);
    }

    #[test]
    fn the_layout_shows_all_that_is_in_the_nar(node in nodes()) {
        let nar = encoded(&node);
        let layout = Layout::from_nar(&nar).unwrap();
        let mut events = Vec::new();
        let mut builder = LayoutBuilder::new();
        for event in layout.events() {
            events.push(format!("{event:?}"));
            builder.push(event);
        }
        prop_assert_eq!(&events, &fed(&nar, nar.len(), []).1);
        prop_assert_eq!(&builder.finish().unwrap(), &layout);
        check_layout(&node, &mut Vec::new(), &layout, &nar);
    }

    #[test]
    fn the_segments_of_a_layout_and_the_files_are_the_nar(node in nodes()) {
        let nar = encoded(&node);
        let layout = Layout::from_nar(&nar).unwrap();
        let mut segments = Segments::new(&layout);
        let mut again = BytesMut::new();
        while let Some(segment) = segments.next(&mut again) {
            let path = || segments.path().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            if let Segment::Contents { executable, size } = segment {
                let Some(Node::Regular { executable: expected, contents }) = descend(&node, path()) else {
                    panic!("no file at {:?}", segments.path());
                };
                prop_assert_eq!((executable, size), (*expected, contents.len() as u64));
                let offset = again.len() as u64;
                prop_assert_eq!(layout.find(path()), Some(Object::Regular { executable, size, offset }));
                again.extend_from_slice(contents);
            }
        }
        prop_assert_eq!(again, nar);
    }
}

/// The node at a path.
fn descend<'n, 'p>(node: &'n Node, path: impl Iterator<Item = &'p [u8]>) -> Option<&'n Node> {
    let mut node = node;
    for name in path {
        let Node::Directory(entries) = node else { return None };
        node = entries.get(&Name::new(name).ok()?)?;
    }
    Some(node)
}

/// Looks up `node`, which is at `path`, and all that is in it.
fn check_layout<'a>(node: &'a Node, path: &mut Vec<&'a [u8]>, layout: &Layout, nar: &[u8]) {
    let found = layout.find(path.iter().copied()).unwrap();
    match (node, found) {
        (Node::Regular { executable, contents }, Object::Regular { executable: found, size, offset }) => {
            let start = usize::try_from(offset).unwrap();
            assert_eq!(*executable, found);
            assert_eq!(contents[..], nar[start..start + usize::try_from(size).unwrap()]);
        }
        (Node::Symlink { target }, Object::Symlink { target: found }) => {
            assert_eq!(target.as_bytes(), found);
        }
        (Node::Directory(entries), Object::Directory) => {
            for (name, node) in entries {
                path.push(name.as_bytes());
                check_layout(node, path, layout, nar);
                path.pop();
            }
        }
        _ => panic!("{found:?} where there is {node:?}"),
    }
}
