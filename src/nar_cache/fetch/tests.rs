//! Fetches and verified streams: everyone gets the right bytes to their end, or no end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use harmonia_protocol::hash::NarHash;
use ring::digest::{SHA256, digest};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::fetches::Fetches;
use super::*;
use crate::fairness::ClientId;
use crate::metrics::Metrics;
use crate::nar_cache::disk::directory::CacheDirectory;
use crate::nar_cache::disk::disk_cache::DiskCache;
use crate::nar_cache::disk::entry::FileInfo;
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::error::FillError;
use crate::nar_cache::fill::fills::Joined;
use crate::nar_cache::serve::{CompressedNar, Source};

/// Pieces of a file, with an error at its end if there is one.
struct Pieces(VecDeque<Bytes>, Option<&'static str>);

impl FileSource for Pieces {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        Poll::Ready(match (self.0.pop_front(), self.1) {
            (None, Some(error)) => Err(io::Error::other(error)),
            (piece, _) => Ok(piece),
        })
    }
}

fn pieces(bytes: &[u8]) -> Box<dyn FileSource> {
    Box::new(Pieces(bytes.chunks(1000).map(Bytes::copy_from_slice).collect(), None))
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

fn info(bytes: &[u8]) -> FileInfo {
    FileInfo { sha256: sha256(bytes), size: bytes.len() as u64 }
}

/// Reads to the end, or to an error; then what came before it.
async fn read(mut source: impl FileSource) -> (Vec<u8>, Result<(), String>) {
    let mut bytes = Vec::new();
    loop {
        match poll_fn(|context| source.poll_piece(context)).await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece),
            Ok(None) => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error.to_string())),
        }
    }
}

fn whole(bytes: &[u8]) -> Range<u64> {
    0..bytes.len() as u64
}

#[tokio::test]
async fn a_file_ends_only_if_it_is_the_right_one() {
    let file = text(10_500);
    let (right, size) = (info(&file), file.len());
    assert_eq!(read(VerifiedStream::file(pieces(&file), right, &whole(&file))).await, (file.clone(), Ok(())));
    for (at, length) in [(0, 1), (0, 1000), (999, 2), (1500, 3000), (9_000, 1500), (size - 1, 1), (0, size - 1)] {
        let range = at as u64..(at + length) as u64;
        let read = read(VerifiedStream::file(pieces(&file), right, &range)).await;
        assert_eq!(read, (file[at..at + length].to_vec(), Ok(())), "{range:?}");
    }
    let mut wrong = file.clone();
    wrong[5] ^= 1;
    for (sent, error) in [
        (wrong, "it has another hash"),
        (file[..size - 1].to_vec(), "it ends too early"),
        ([&file[..], b"x"].concat(), "it is longer than expected"),
    ] {
        for range in [whole(&file), 9_900..size as u64, size as u64 - 1..size as u64] {
            let (bytes, end) = read(VerifiedStream::file(pieces(&sent), right, &range)).await;
            assert_eq!(end, Err(error.to_owned()));
            assert!((bytes.len() as u64) < range.end - range.start, "{error}: its end came");
        }
    }
}

fn zstd(nar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(nar).unwrap();
    encoder.finish().unwrap()
}

fn decoded(file: &[u8], nar: &[u8], range: &Range<u64>) -> VerifiedStream {
    let hash = NarHash::from_digest(sha256(nar));
    VerifiedStream::zstd_nar(pieces(file), &hash, nar.len() as u64, range).unwrap()
}

#[tokio::test]
async fn a_nar_is_decoded_from_all_frames_and_proven() {
    let nar = text(700_000);
    // Two frames, and one that decoders skip, as behind the frames of the NAR cache.
    let skipped = [0x5E, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let file = [zstd(&nar[..300_000]), zstd(&nar[300_000..]), skipped.to_vec()].concat();
    assert!(read(decoded(&file, &nar, &whole(&nar))).await == (nar.clone(), Ok(())));
    for range in [0..1, 299_999..300_001, 650_000..700_000, 5..699_999] {
        let bytes = nar[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
        assert!(read(decoded(&file, &nar, &range)).await == (bytes, Ok(())), "{range:?}");
    }
    let other = [&nar[..699_999], b"x"].concat();
    for (file, error) in [
        (zstd(&other), "it has another hash"),
        (zstd(&nar[..699_999]), "it ends too early"),
        (zstd(&[&nar[..], b"more"].concat()), "it is longer than expected"),
        (file[..file.len() - 20].to_vec(), "a frame does not end"),
    ] {
        let (bytes, end) = read(decoded(&file, &nar, &whole(&nar))).await;
        assert_eq!(end, Err(error.to_owned()));
        assert!(bytes.len() < nar.len(), "{error}: its end came");
    }
    assert!(read(decoded(b"no zstd at all", &nar, &whole(&nar))).await.1.is_err());
}

fn disk(dir: &Path) -> Arc<DiskCache> {
    let dir = CacheDirectory::create(&dir.join("nars"), &[]).unwrap();
    Arc::new(DiskCache::open(dir, 1 << 30, Arc::default()).unwrap())
}

fn fetches(disk: &Arc<DiskCache>) -> Arc<Fetches> {
    Arc::new(Fetches::new(Arc::clone(disk), &Metrics::default()))
}

fn joined(disk: &Arc<DiskCache>, file: &[u8], joined: Joined) -> CompressedNar {
    let (key, size) = (EntryKey::of_file(&sha256(file)), file.len() as u64);
    let source = match joined {
        Joined::Finished(entry) => Source::Disk(entry),
        Joined::Running(progress) | Joined::Started(progress) => Source::Fill(progress),
    };
    CompressedNar { disk: Arc::clone(disk), key, nar_size: size, file_size: Some(size), source }
}

fn start(
    fetches: &Arc<Fetches>,
    file: &[u8],
    open: impl Future<Output = io::Result<Box<dyn FileSource>>> + Send + 'static,
) -> Joined {
    let to_fetch = FileToFetch { info: info(file), path: None };
    fetches.join_or_start(&EntryKey::of_file(&sha256(file)), to_fetch, ClientId::Server, open).unwrap()
}

#[tokio::test]
async fn all_who_want_a_file_read_along_with_one_fetch_and_later_ones_from_disk() {
    let dir = TempDir::new().unwrap();
    let (disk, file) = (disk(dir.path()), text(2_000_000));
    let (fetches, opened, go) = (fetches(&disk), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let open = || {
        let (opened, go, bytes) = (Arc::clone(&opened), Arc::clone(&go), file.clone());
        async move {
            go.notified().await;
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(pieces(&bytes))
        }
    };
    let readers: Vec<_> = (0..5).map(|_| joined(&disk, &file, start(&fetches, &file, open()))).collect();
    assert!(readers.iter().all(|reader| reader.known_length() == Some(2_000_000)));
    go.notify_one();
    for (index, reader) in readers.into_iter().enumerate() {
        let range = index as u64 * 300_000..2_000_000;
        let body = reader.open(Some(range)).await.unwrap();
        assert!(read(body).await == (file[index * 300_000..].to_vec(), Ok(())), "{index}");
    }
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    let again = start(&fetches, &file, async { panic!("it is on disk") });
    assert!(matches!(again, Joined::Finished(_)));
    assert!(read(joined(&disk, &file, again).open(None).await.unwrap()).await == (file, Ok(())));
}

#[tokio::test]
async fn nobody_gets_the_end_of_a_wrong_file_and_nothing_is_kept() {
    let dir = TempDir::new().unwrap();
    let (disk, file) = (disk(dir.path()), text(1_500_000));
    let fetches = fetches(&disk);
    let mut wrong = file.clone();
    wrong[1_000] ^= 1;
    let broken =
        || -> Box<dyn FileSource> { Box::new(Pieces([Bytes::from_static(b"start")].into(), Some("it broke"))) };
    let longer = [&file[..], b"x"].concat();
    for (source, error) in [
        (pieces(&wrong), "it has another hash"),
        (pieces(&file[..1_400_000]), "it ends too early"),
        (pieces(&longer), "it is longer than expected"),
        (broken(), "it broke"),
    ] {
        let started = joined(&disk, &file, start(&fetches, &file, async { Ok(source) }));
        match started.open(None).await {
            // Mostly it fails before the head of a response is sent.
            Err(cause) => assert!(cause.to_string().ends_with(error), "{cause}"),
            Ok(body) => {
                let (bytes, end) = read(body).await;
                assert!(end.is_err() && bytes.len() < file.len(), "{error}: its end came");
            }
        }
        assert!(disk.find(&EntryKey::of_file(&sha256(&file))).is_none(), "{error}");
    }
    let failed = start(&fetches, &file, async { Err(io::Error::other("it is not there")) });
    let error = joined(&disk, &file, failed).open(None).await.err().unwrap();
    assert!(matches!(&error, FillError::Fetch(cause) if cause == "it is not there"), "{error}");
    let right = joined(
        &disk,
        &file,
        start(&fetches, &file, {
            let file = pieces(&file);
            async { Ok(file) }
        }),
    );
    assert!(read(right.open(None).await.unwrap()).await == (file, Ok(())));
}
