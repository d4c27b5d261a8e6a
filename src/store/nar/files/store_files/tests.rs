//! NARs read from trees on disk, compared with NARs encoded in memory, and changes of the files meanwhile.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use harmonia_protocol::StorePath;
use harmonia_protocol::nar::{Name, Node, Target};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rustix::fs::{Advice, CWD, FileType, Mode, mknodat};

use super::*;

/// User id of `nobody` on most systems.
const NOBODY: u32 = 65_534;

/// Name of a change, and the function that makes it at a path.
type Change = (&'static str, fn(&Path));

/// A store directory with one path in it.
struct Tree {
    store: tempfile::TempDir,
    path: StorePath,
}

impl Tree {
    fn new() -> Self {
        let path = StorePath::from_base_name("0123456789abcdfghijklmnpqrsvwxyz-tree").unwrap();
        Self { store: tempfile::tempdir().unwrap(), path }
    }

    fn of(node: &Node) -> Self {
        let tree = Self::new();
        write(&tree.root(), node);
        tree
    }

    fn root(&self) -> PathBuf {
        self.store.path().join(self.path.base_name())
    }

    fn index_within(&self, max: usize) -> Result<Index, NoIndex> {
        crate::store::nar::files::index::index(&open_configured(self.store.path()).unwrap().unwrap(), &self.path, max)
    }

    fn index(&self) -> Index {
        self.index_within(MAX_INDEX).unwrap()
    }

    fn reader(&self, index: Index, bytes: Range<u64>, is_verified: bool) -> Reader {
        let directory = self.store.path().to_path_buf();
        let store = open_configured(&directory).unwrap().unwrap();
        let open_store = Arc::new(OpenStore { directory, store, pieces: BufferPool::new(PIECE + SLACK) });
        let Index { layout, modified, .. } = index;
        let mut reader = Reader::new(open_store, self.path.clone(), Arc::new(layout), modified, bytes);
        if is_verified {
            reader.require_stamp(PathStamp::read(self.store.path(), &self.path).unwrap());
        }
        reader
    }
}

fn write(path: &Path, node: &Node) {
    match node {
        Node::Regular { executable, contents } => {
            fs::write(path, contents).unwrap();
            // As Nix does for every file it adds, so that a later write shows in the modification time.
            File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            fs::set_permissions(path, Permissions::from_mode(if *executable { 0o555 } else { 0o444 })).unwrap();
        }
        Node::Symlink { target } => symlink(OsStr::from_bytes(target.as_bytes()), path).unwrap(),
        Node::Directory(entries) => {
            fs::create_dir(path).unwrap();
            for (name, node) in entries {
                write(&path.join(OsStr::from_bytes(name.as_bytes())), node);
            }
        }
    }
}

fn encoded(node: &Node) -> Bytes {
    let mut nar = BytesMut::new();
    node.encode(&mut nar);
    nar.freeze()
}

fn file(contents: impl Into<Bytes>) -> Node {
    Node::Regular { executable: false, contents: contents.into() }
}

fn directory<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::Directory(entries.map(|(name, node)| (Name::new(name.as_bytes()).unwrap(), node)).into())
}

/// Reads to the end, blocking.
fn read(mut reader: Reader) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::new();
    while reader.remaining() > 0 {
        let now = reader.piece_now()?;
        all.extend_from_slice(&now.map_or_else(|| reader.piece(), Ok)?);
    }
    Ok(all)
}

fn nodes() -> impl Strategy<Value = Node> {
    let letters = prop::sample::select(&b"-.ABab\x01\x7f\xff"[..]);
    let names = vec(letters, 1..4).prop_filter_map("reserved", |bytes| Name::new(&bytes).ok());
    let target = vec(1..=255u8, 1..20).prop_filter_map("not a target", |bytes| Target::new(&bytes).ok());
    let leaf = prop_oneof![
        (any::<bool>(), vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Node::Regular { executable, contents: Bytes::from(contents) }),
        target.prop_map(|target| Node::Symlink { target }),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| btree_map(names.clone(), inner, 0..4).prop_map(Node::Directory))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_range_read_from_a_tree_is_that_of_its_nar(
        node in nodes(),
        ends in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let nar = encoded(&node);
        let tree = Tree::of(&node);
        let size = tree.index().nar_size;
        prop_assert_eq!(size, nar.len() as u64);
        prop_assert_eq!(tree.index().layout, Layout::from_nar(&nar).unwrap());
        prop_assert_eq!(read(tree.reader(tree.index(), 0..size, false)).unwrap(), &nar[..]);
        for (one, other) in ends {
            let (one, other) = (one.index(nar.len()), other.index(nar.len()));
            let range = one.min(other)..one.max(other) + 1;
            let bytes = range.start as u64..range.end as u64;
            prop_assert_eq!(read(tree.reader(tree.index(), bytes, true)).unwrap(), &nar[range]);
        }
    }
}

#[test]
fn a_large_file_is_read_in_pieces() {
    let contents: Vec<u8> = (0..5 * PIECE / 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let node = directory([("a", file("before")), ("b", file(contents)), ("c", file("after"))]);
    let (nar, tree) = (encoded(&node), Tree::of(&node));
    let mut reader = tree.reader(tree.index(), 0..nar.len() as u64, false);
    assert!(reader.piece().unwrap().len() <= PIECE + 4096);
    for first in [1, PIECE - 1, PIECE, 2 * PIECE + 77, nar.len() - 1] {
        let rest = read(tree.reader(tree.index(), first as u64..nar.len() as u64, false)).unwrap();
        assert!(rest == nar[first..], "from {first}");
    }
}

#[test]
fn cached_bytes_are_kept_while_waiting_for_the_disk() {
    let (small, large) = (file(vec![b's'; 10_000]), file(vec![b'l'; 3 * PIECE / 2]));
    let node = directory([("a", small), ("b", large.clone()), ("c", large)]);
    let (nar, tree) = (encoded(&node), Tree::of(&node));
    let all = || tree.reader(tree.index(), 0..nar.len() as u64, false);
    // Just written, so it is in the page cache, if the kernel can tell.
    assert!(read(all()).unwrap() == nar);
    for name in ["b", "c"] {
        let file = File::open(tree.root().join(name)).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    assert!(read(all()).unwrap() == nar);
    // As if nothing were in the page cache.
    let mut waiting = all();
    let mut pieces = Vec::new();
    while waiting.remaining() > 0 {
        pieces.extend_from_slice(&waiting.piece().unwrap());
    }
    assert!(pieces == nar);
}

#[test]
fn only_files_of_the_range_are_read() {
    let node = directory([("a", file("gone")), ("b", file("wanted")), ("c", file("gone too"))]);
    let (nar, tree) = (encoded(&node), Tree::of(&node));
    let index = tree.index();
    let at = nar.windows(6).position(|bytes| bytes == b"wanted").unwrap() as u64;
    for name in ["a", "c"] {
        fs::remove_file(tree.root().join(name)).unwrap();
    }
    assert_eq!(read(tree.reader(index, at..at + 6, false)).unwrap(), b"wanted");
    let gone = nar.windows(4).position(|bytes| bytes == b"gone").unwrap() as u64;
    let index =
        Index { layout: Layout::from_nar(&nar).unwrap(), nar_size: nar.len() as u64, modified: LastModified::NEVER };
    assert!(matches!(read(tree.reader(index, gone..gone + 1, false)), Err(StoreError::Changed(_))));
}

#[test]
fn unsupported_file_types_are_reported_without_blocking() {
    let put: [Change; 2] = [
        ("fifo", |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap()),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
    ];
    for (name, put) in put {
        let tree = Tree::of(&directory([("a", file("regular")), ("b", directory([]))]));
        put(&tree.root().join("b").join(name));
        let below = Path::new(tree.path.base_name()).join("b").join(name);
        assert!(matches!(tree.index_within(MAX_INDEX), Err(NoIndex::Special(path)) if path == below), "{name}");
        let alone = Tree::new();
        put(&alone.root());
        let below = Path::new(alone.path.base_name());
        assert!(matches!(alone.index_within(MAX_INDEX), Err(NoIndex::Special(path)) if path == below), "{name}");
    }
}

/// Each change happens after indexing and before reading.
#[test]
fn files_that_differ_from_the_index_fail_the_nar() {
    let changes: [Change; 8] = [
        ("gone", |path| fs::remove_file(path.join("d/f")).unwrap()),
        ("shorter", |path| File::options().write(true).open(path.join("d/f")).unwrap().set_len(3).unwrap()),
        ("longer", |path| File::options().write(true).open(path.join("d/f")).unwrap().set_len(99).unwrap()),
        ("executable", |path| fs::set_permissions(path.join("d/f"), Permissions::from_mode(0o755)).unwrap()),
        ("a link to the same", |path| {
            fs::rename(path.join("d/f"), path.join("same")).unwrap();
            symlink("../same", path.join("d/f")).unwrap();
        }),
        ("over a link to the same", |path| {
            fs::rename(path.join("d"), path.join("same")).unwrap();
            symlink("same", path.join("d")).unwrap();
        }),
        ("a fifo", |path| {
            fs::remove_file(path.join("d/f")).unwrap();
            mknodat(CWD, path.join("d/f"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }),
        ("all gone", |path| fs::remove_dir_all(path).unwrap()),
    ];
    for (case, change) in changes {
        let tree = Tree::of(&directory([("d", directory([("f", file("contents"))]))]));
        fs::set_permissions(tree.root().join("d/f"), Permissions::from_mode(0o644)).unwrap();
        let index = tree.index();
        let size = index.nar_size;
        let reader = tree.reader(index, 0..size, false);
        change(&tree.root());
        assert!(matches!(read(reader), Err(StoreError::Changed(_))), "{case}");
    }
}

#[test]
fn unhashed_bytes_are_returned_only_while_the_stamp_is_the_same() {
    let contents = vec![7; 2 * PIECE];
    for is_verified in [false, true] {
        let tree = Tree::of(&file(contents.clone()));
        let index = tree.index();
        let size = index.nar_size;
        let mut reader = tree.reader(index, 0..size, is_verified);
        reader.piece().unwrap();
        let other = tree.store.path().join("other");
        write(&other, &file(contents.clone()));
        fs::rename(other, tree.root()).unwrap();
        assert_eq!(reader.piece().is_err(), is_verified);
    }
}

#[test]
fn an_index_is_limited_by_its_size_and_its_pending_entries() {
    let node = directory([("a", directory([("b", file(""))])), ("c", file("")), ("d", file(""))]);
    let tree = Tree::of(&node);
    let weight = tree.index().layout.heap_size();
    assert!(matches!(tree.index_within(weight - 1), Err(NoIndex::TooLarge)));
    // Pending entries count too.
    assert!(matches!(tree.index_within(weight), Err(NoIndex::TooLarge)));
    assert!(tree.index_within(4 * weight).is_ok());
}

#[test]
fn files_without_permission_are_unreadable() {
    let closed = Permissions::from_mode(0o000);
    for below in ["d/f", "d"] {
        let tree = Tree::of(&directory([("d", directory([("f", file("contents"))]))]));
        fs::set_permissions(tree.store.path(), Permissions::from_mode(0o755)).unwrap();
        let path = tree.root().join(below);
        fs::set_permissions(&path, closed.clone()).unwrap();
        let store = open_configured(tree.store.path()).unwrap().unwrap();
        let index = || {
            if rustix::process::geteuid().is_root() {
                // Affects this thread only, for the rest of its life.
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).unwrap();
            }
            crate::store::nar::files::index::index(&store, &tree.path, MAX_INDEX)
        };
        let result = std::thread::scope(|scope| scope.spawn(index).join().unwrap());
        let expected = Path::new(tree.path.base_name()).join(below);
        let Err(NoIndex::Unreadable(found, cause)) = result else { panic!("{below}: {result:?}") };
        assert_eq!((found, cause.kind()), (expected, io::ErrorKind::PermissionDenied));
        // Lets the directory be removed.
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_missing_path_is_unreadable() {
    let tree = Tree::new();
    assert!(matches!(tree.index_within(MAX_INDEX), Err(NoIndex::Unreadable(..))));
}
