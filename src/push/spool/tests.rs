//! The spool on a real directory.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use tempfile::TempDir;

use super::ledger::SpoolLimits;
use super::*;

const LIMITS: SpoolLimits = SpoolLimits { file: 1 << 20, owner: 2 << 20, total: 3 << 20 };

fn fresh() -> (TempDir, Arc<Spool>) {
    let around = TempDir::new().unwrap();
    let spool = Spool::open(&around.path().join("spool"), LIMITS).unwrap();
    (around, spool)
}

fn hash_of(bytes: &[u8]) -> FileHash {
    FileHash::from_digest(digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap())
}

async fn put(spool: &Arc<Spool>, owner: &str, bytes: &[u8], expected: FileHash) -> Result<(), SpoolError> {
    let upload = Upload::create(spool, spool.reserve(Owner::named(owner), None)?).await?;
    let (upload, buffer) = upload.write(bytes.to_vec()).await?;
    assert!(buffer.is_empty());
    upload.finish(expected).await
}

fn files(around: &TempDir) -> usize {
    // All but the mark.
    around.path().join(Path::new("spool")).read_dir().unwrap().count() - 1
}

#[tokio::test]
async fn a_file_is_there_for_its_owner_only_and_goes_with_its_narinfo() {
    let (around, spool) = fresh();
    let (alice, bob, hash) = (Owner::named("user:alice"), Owner::named("user:bob"), hash_of(b"nar"));
    put(&spool, "user:alice", b"nar", hash).await.unwrap();
    assert!(!spool.claim(bob, hash) && spool.read(bob, hash).await.unwrap().is_none());
    spool.accepted(bob, hash).await;
    let mut found = spool.read(alice, hash).await.unwrap().unwrap();
    let mut text = String::new();
    found.file.read_to_string(&mut text).unwrap();
    assert_eq!((&*text, found.size, files(&around)), ("nar", 3, 1));
    assert!(spool.claim(alice, hash));
    spool.accepted(alice, hash).await;
    assert_eq!(files(&around), 1, "another narinfo is expected");
    spool.accepted(alice, hash).await;
    assert_eq!((files(&around), spool.usage()), (0, (0, 0)));
}

#[tokio::test]
async fn what_is_wrong_or_broken_off_leaves_nothing() {
    let (around, spool) = fresh();
    let wrong = put(&spool, "user:alice", b"nar", hash_of(b"another")).await;
    assert!(matches!(wrong, Err(SpoolError::WrongHash(actual)) if actual == hash_of(b"nar")));
    let large = put(&spool, "user:alice", &vec![0; 2 << 20], hash_of(b"")).await;
    assert!(matches!(large, Err(SpoolError::TooLarge { key: "push.max_nar_size", .. })));
    let upload =
        Upload::create(&spool, spool.reserve(Owner::named("user:alice"), Some(1 << 20)).unwrap()).await.unwrap();
    assert_eq!((files(&around), spool.usage()), (1, (1 << 20, 1)));
    drop(upload);
    assert_eq!((files(&around), spool.usage()), (0, (0, 0)));
}

#[tokio::test]
async fn the_same_file_twice_takes_the_space_of_one() {
    let (around, spool) = fresh();
    for _ in 0..3 {
        put(&spool, "user:alice", b"nar", hash_of(b"nar")).await.unwrap();
    }
    put(&spool, "user:bob", b"nar", hash_of(b"nar")).await.unwrap();
    assert_eq!((files(&around), spool.usage().1), (2, 2));
}

#[tokio::test]
async fn an_idle_file_is_removed() {
    let (around, spool) = fresh();
    put(&spool, "user:alice", b"nar", hash_of(b"nar")).await.unwrap();
    spool.remove_idle_now().await;
    assert_eq!(files(&around), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    spool.remove_idle_now().await;
    assert_eq!((files(&around), spool.usage()), (0, (0, 0)));
}

#[tokio::test]
async fn a_file_that_vanished_is_forgotten() {
    let (around, spool) = fresh();
    let (alice, hash) = (Owner::named("user:alice"), hash_of(b"nar"));
    put(&spool, "user:alice", b"nar", hash).await.unwrap();
    for entry in around.path().join("spool").read_dir().unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(spool.read(alice, hash).await.unwrap().is_none() && !spool.claim(alice, hash));
    assert_eq!(spool.usage(), (0, 0));
}
