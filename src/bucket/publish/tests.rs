//! Publishing into an object store in memory, with processes that die between any two writes.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::{KeyName, SecretKey};
use harmonia_protocol::{HashPart, StoreDir};
use object_store::memory::InMemory;
use ring::digest::{SHA256, digest};

use super::batch::Publication;
use super::nar_source::{Chunks, NarSource};
use super::publisher::Publisher;
use crate::bucket::engine::{BucketStore, Patience};
use crate::bucket::file_hash::{FileHash, NarFile};
use crate::bucket::narinfo::tests::{info, path};
use crate::bucket::narinfo::{BucketNarInfo, MAX_NARINFO};
use crate::bucket::object_name::ObjectName;
use crate::bucket::segment::{MAX_SEGMENT, Segment};
use crate::nar_cache::FileInfo;

/// More writes than any test makes.
const ALIVE: usize = 1_000_000;

/// Files in memory.
#[derive(Clone, Default)]
pub(in crate::bucket) struct Files(pub(in crate::bucket) HashMap<NarFile, Bytes>);

pub(in crate::bucket) struct Pieces(Bytes);

impl NarSource for Files {
    type Chunks = Pieces;

    async fn open(&self, file: NarFile) -> io::Result<Pieces> {
        self.0.get(&file).cloned().map(Pieces).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Chunks for Pieces {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = self.0.split_to(self.0.len().min(100_000));
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// A host with files, and paths that it may publish.
#[derive(Clone, Default)]
pub(in crate::bucket) struct Host {
    pub(in crate::bucket) files: Files,
    pub(in crate::bucket) batch: Vec<Publication>,
}

impl Host {
    pub(in crate::bucket) fn add(&mut self, number: u64, contents: Vec<u8>, references: &[u64]) {
        let sha256: [u8; 32] = digest(&SHA256, &contents).as_ref().try_into().unwrap();
        let mut info = info(references);
        info.nar_hash = NarHash::from_digest(sha256);
        let file = FileInfo { sha256, size: contents.len() as u64 };
        let narinfo = BucketNarInfo::new(&path(number), &info, &StoreDir::default(), file, Vec::new()).unwrap();
        self.files.0.insert(NarFile::zstd(FileHash::from_digest(sha256)), contents.into());
        self.batch.push(Publication { narinfo, listing: Some(Bytes::from_static(b"{}")), log: None });
    }

    /// Signs the paths with this key, and no other one.
    fn sign(&mut self, key: &SecretKey) {
        let store = StoreDir::default();
        for publication in &mut self.batch {
            let (path, info) = (publication.narinfo.path().clone(), publication.narinfo.path_info());
            let info = PathInfo { signatures: vec![key.sign(info.fingerprint(&path, &store).as_bytes())], ..info };
            let (file, size) = (publication.narinfo.file(), publication.narinfo.file_size());
            let file = FileInfo { sha256: *file.hash().as_bytes(), size };
            publication.narinfo = BucketNarInfo::new(&path, &info, &store, file, Vec::new()).unwrap();
        }
    }

    /// A chain of paths, each of which refers to all before it.
    fn chain(length: u64) -> Self {
        let mut host = Self::default();
        for number in 0..length {
            let references: Vec<_> = (0..number).collect();
            host.add(number, vec![u8::try_from(number).unwrap(); 1_000], &references);
        }
        host
    }
}

fn publisher(name: &str, epoch: u64, store: BucketStore, state: Option<&std::path::Path>) -> Publisher {
    Publisher::new(Arc::new(store), StoreDir::default(), name.parse().unwrap(), epoch, state)
}

/// Contents of a bucket.
struct Contents {
    narinfos: BTreeMap<HashPart, BucketNarInfo>,
    nars: Vec<NarFile>,
    indexed: Vec<HashPart>,
}

/// Reads a bucket, and fails if a narinfo lacks its NAR or a reference.
async fn contents(memory: &Arc<InMemory>) -> Contents {
    let store = BucketStore::in_memory(memory, ALIVE);
    let mut contents = Contents { narinfos: BTreeMap::new(), nars: Vec::new(), indexed: Vec::new() };
    for (name, _) in store.list("", None, 10_000).await.unwrap() {
        match &name {
            ObjectName::NarInfo(hash) => {
                let bytes = store.get(&name, MAX_NARINFO, Patience::Client).await.unwrap().unwrap();
                contents.narinfos.insert(*hash, BucketNarInfo::parse(&bytes, *hash, &StoreDir::default()).unwrap());
            }
            ObjectName::Nar(file) => {
                let bytes = store.get(&name, 100 << 20, Patience::Client).await.unwrap().unwrap();
                assert_eq!(digest(&SHA256, &bytes).as_ref(), file.hash().as_bytes());
                contents.nars.push(*file);
            }
            ObjectName::Segment(..) => {
                let bytes = store.get(&name, MAX_SEGMENT, Patience::Client).await.unwrap().unwrap();
                contents.indexed.extend(Segment::decode(&bytes).unwrap().published());
            }
            _ => {}
        }
    }
    for narinfo in contents.narinfos.values() {
        assert!(contents.nars.contains(&narinfo.file()), "{} has no NAR", narinfo.path());
        for reference in narinfo.references() {
            assert!(contents.narinfos.contains_key(&reference), "{} has no reference", narinfo.path());
        }
    }
    assert!(contents.indexed.iter().all(|path| contents.narinfos.contains_key(path)));
    contents
}

#[tokio::test]
async fn a_closure_is_published_once_by_whichever_host() {
    let (memory, host) = (Arc::new(InMemory::new()), Host::chain(5));
    let first = publisher("a", 1, BucketStore::in_memory(&memory, ALIVE), None);
    let published = first.publish(&host.batch, &host.files, |_| false).await.unwrap();
    assert_eq!((published.narinfos, published.nars, published.nar_bytes), (5, 5, 5_000));
    assert!(published.withheld.is_empty() && published.irreproducible.is_empty());
    assert_eq!(contents(&memory).await.indexed.len(), 5);
    for knows_the_index in [true, false] {
        let second = publisher("b", 2, BucketStore::in_memory(&memory, ALIVE), None);
        let published = second.publish(&host.batch, &host.files, |_| knows_the_index).await.unwrap();
        assert_eq!((published.narinfos, published.nar_bytes), (0, 0));
    }
}

#[tokio::test]
async fn a_process_that_dies_after_any_write_leaves_nothing_that_is_incomplete() {
    let host = Host::chain(4);
    let mut writes = 0;
    loop {
        let memory = Arc::new(InMemory::new());
        let dying = publisher("a", 1, BucketStore::in_memory(&memory, writes), None);
        let is_done = dying.publish(&host.batch, &host.files, |_| false).await.is_ok();
        let before = contents(&memory).await;
        assert!(before.indexed.is_empty() || is_done);
        let again = publisher("a", 2, BucketStore::in_memory(&memory, ALIVE), None);
        again.publish(&host.batch, &host.files, |path| before.indexed.contains(path)).await.unwrap();
        let after = contents(&memory).await;
        assert_eq!((after.narinfos.len(), after.nars.len(), after.indexed.len()), (4, 4, 4), "after {writes} writes");
        if is_done {
            break;
        }
        writes += 1;
    }
    assert_eq!(writes, 4 + 4 + 4 + 1, "NARs, listings, narinfos, a segment");
}

#[tokio::test]
async fn a_large_file_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, mut host) = (Arc::new(InMemory::new()), Host::default());
    // Three parts, the last of them short.
    host.add(1, (0..20_u32 << 20).map(|number| (number % 251) as u8).collect(), &[]);
    // The upload begins, and one part is sent.
    let dying = publisher("a", 1, BucketStore::in_memory(&memory, 2), Some(directory.path()));
    assert!(dying.publish(&host.batch, &host.files, |_| false).await.is_err());
    assert!(contents(&memory).await.nars.is_empty());
    let again = publisher("a", 2, BucketStore::in_memory(&memory, ALIVE), Some(directory.path()));
    let published = again.publish(&host.batch, &host.files, |_| false).await.unwrap();
    assert_eq!((published.nars, published.nar_bytes), (1, 12 << 20), "without the first 8 MiB");
    assert_eq!(contents(&memory).await.narinfos.len(), 1);
    assert_eq!(directory.path().join("uploads").read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn the_first_build_of_a_path_that_is_not_reproducible_stays() {
    let (memory, mut first, mut second) = (Arc::new(InMemory::new()), Host::default(), Host::default());
    first.add(1, vec![1; 100], &[]);
    second.add(1, vec![2; 100], &[]);
    second.add(2, vec![3; 100], &[1]);
    let of = |name| publisher(name, 1, BucketStore::in_memory(&memory, ALIVE), None);
    of("a").publish(&first.batch, &first.files, |_| false).await.unwrap();
    for knows_the_index in [true, false] {
        let is_indexed = |hash: &HashPart| knows_the_index && *hash == path(1).hash_part();
        let published = of("b").publish(&second.batch, &second.files, is_indexed).await.unwrap();
        assert_eq!(published.irreproducible, [path(1).hash_part()]);
        let contents = contents(&memory).await;
        assert_eq!(contents.narinfos[&path(1).hash_part()].nar_hash(), first.batch[0].narinfo.nar_hash());
        assert_eq!(contents.narinfos.len(), 2, "what refers to it is published");
    }
}

#[tokio::test]
async fn a_narinfo_that_no_trusted_key_has_signed_is_put_again_with_both_signatures() {
    let memory = Arc::new(InMemory::new());
    let key = |name: &str| SecretKey::generate(KeyName::new(name).unwrap()).unwrap().0;
    let (before, after) = (key("before-1"), key("after-1"));
    let publish = async |key: &SecretKey, trusted: &[&SecretKey], is_indexed: bool| {
        let mut host = Host::chain(3);
        host.sign(key);
        let publisher = publisher("a", 1, BucketStore::in_memory(&memory, ALIVE), None);
        publisher.set_trusted(trusted.iter().map(|key| key.public_key().clone()).collect());
        let done = publisher.publish(&host.batch, &host.files, |_| is_indexed).await.unwrap();
        (done.narinfos, done.nar_bytes)
    };
    assert_eq!(publish(&before, &[&before], false).await, (3, 3_000));
    assert_eq!(publish(&after, &[&before, &after], true).await, (0, 0), "the old key is trusted");
    assert_eq!(publish(&after, &[], true).await, (0, 0), "nothing is known about keys");
    assert_eq!(publish(&before, &[&after], true).await, (0, 0), "ours is no better");
    assert_eq!(publish(&after, &[&after], true).await, (3, 0));
    for narinfo in contents(&memory).await.narinfos.values() {
        for key in [&before, &after] {
            assert_eq!(narinfo.check_signed(&[key.public_key().clone()], &StoreDir::default()), Ok(()));
        }
    }
    for key in [&before, &after] {
        assert_eq!(publish(key, &[key], true).await, (0, 0), "two hosts do not replace each other's");
    }
}

#[tokio::test]
async fn nothing_is_published_above_a_file_that_is_gone_or_wrong() {
    for is_wrong in [false, true] {
        let (memory, mut host) = (Arc::new(InMemory::new()), Host::chain(4));
        let file = host.batch[2].narinfo.file();
        if is_wrong {
            host.files.0.insert(file, Bytes::from(vec![0xFF; 1_000]));
        } else {
            host.files.0.remove(&file);
        }
        let first = publisher("a", 1, BucketStore::in_memory(&memory, ALIVE), None);
        let published = first.publish(&host.batch, &host.files, |_| false).await.unwrap();
        assert_eq!((published.narinfos, published.withheld.len()), (2, 2));
        assert_eq!(contents(&memory).await.narinfos.len(), 2);
    }
}

#[tokio::test]
async fn a_reference_outside_of_the_batch_has_to_be_in_the_bucket() {
    let (memory, host) = (Arc::new(InMemory::new()), Host::chain(2));
    let first = publisher("a", 1, BucketStore::in_memory(&memory, ALIVE), None);
    let above = &host.batch[1..];
    let published = first.publish(above, &host.files, |_| false).await.unwrap();
    assert_eq!((published.narinfos, published.nars, published.withheld.len()), (0, 0, 1));
    first.publish(&host.batch[..1], &host.files, |_| false).await.unwrap();
    assert_eq!(first.publish(above, &host.files, |_| false).await.unwrap().narinfos, 1);
    assert_eq!(contents(&memory).await.indexed.len(), 2);
}
