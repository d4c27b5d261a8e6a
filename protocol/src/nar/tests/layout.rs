//! Lookups in small trees, and the caps.

use bytes::{Bytes, BytesMut};

use crate::nar::{Event, Layout, LayoutBuilder, MAX_ENTRIES, MAX_TEXT, Name, NarError, Node, Object, Target};

fn regular(contents: &'static [u8]) -> Node {
    Node::Regular { executable: false, contents: Bytes::from_static(contents) }
}

fn directory<const N: usize>(entries: [(&[u8], Node); N]) -> Node {
    Node::Directory(entries.map(|(name, node)| (Name::new(name).unwrap(), node)).into())
}

fn encoded(node: &Node) -> BytesMut {
    let mut nar = BytesMut::new();
    node.encode(&mut nar);
    nar
}

fn find<'a>(layout: &'a Layout, path: &str) -> Option<Object<'a>> {
    layout.find(path.split_terminator('/').map(str::as_bytes))
}

#[test]
fn an_object_is_found_by_its_path() {
    let link = Node::Symlink { target: Target::new(b"../x").unwrap() };
    let tree = directory([
        (b"bin", directory([(b"a", regular(b"one")), (b"c", link)])),
        (b"empty", directory([])),
        (b"z", regular(b"two")),
    ]);
    let nar = encoded(&tree);
    let layout = Layout::from_nar(&nar).unwrap();

    for (path, contents) in [("bin/a", &b"one"[..]), ("z", b"two")] {
        let Some(Object::Regular { executable: false, size, offset }) = find(&layout, path) else {
            panic!("{path} is not found as a file");
        };
        let start = usize::try_from(offset).unwrap();
        assert_eq!(&nar[start..start + usize::try_from(size).unwrap()], contents);
    }
    assert_eq!(find(&layout, "bin/c"), Some(Object::Symlink { target: b"../x" }));
    for path in ["", "bin", "empty"] {
        assert_eq!(find(&layout, path), Some(Object::Directory));
    }
    for path in ["bin/b", "bin/d", "a", "zz", "z/a", "empty/z", "bin/c/x", "bin/a/z"] {
        assert_eq!(find(&layout, path), None, "{path}");
    }
}

#[test]
fn a_root_file_is_found_by_the_empty_path_only() {
    let layout = Layout::from_nar(&encoded(&regular(b"x"))).unwrap();
    assert_eq!(find(&layout, ""), Some(Object::Regular { executable: false, size: 1, offset: 96 }));
    assert_eq!(find(&layout, "x"), None);
}

#[test]
fn an_incomplete_tree_has_no_layout() {
    assert_eq!(LayoutBuilder::new().finish(), Err(NarError::Truncated));
    let mut builder = LayoutBuilder::new();
    builder.push(Event::Object { name: None, object: Object::Directory });
    assert_eq!(builder.finish(), Err(NarError::Truncated));
}

#[test]
fn a_tree_with_too_many_entries_has_no_layout() {
    let mut builder = LayoutBuilder::new();
    builder.push(Event::Object { name: None, object: Object::Directory });
    for number in 1..=MAX_ENTRIES {
        let name = format!("{number:07}");
        builder.push(Event::Object { name: Some(name.as_bytes()), object: Object::Symlink { target: b"." } });
    }
    builder.push(Event::EndDirectory);
    assert_eq!(builder.finish(), Err(NarError::TooManyEntries));
}

#[test]
fn a_tree_with_too_much_text_has_no_layout() {
    let target = [b'x'; 4095];
    let mut builder = LayoutBuilder::new();
    builder.push(Event::Object { name: None, object: Object::Directory });
    for _ in 0..=MAX_TEXT / target.len() {
        builder.push(Event::Object { name: Some(b"a"), object: Object::Symlink { target: &target } });
    }
    builder.push(Event::EndDirectory);
    assert_eq!(builder.finish(), Err(NarError::TooManyEntries));
}
