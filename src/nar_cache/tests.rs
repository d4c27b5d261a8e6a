//! The directory of compressed NARs without a daemon: what is written is read back, and nothing else ever is.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use harmonia_protocol::StorePath;
use harmonia_protocol::hash::NarHash;
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use super::cache::NarCache;
use super::disk::decode::NarDecoder;
use super::disk::disk_cache::DiskCache;
use super::disk::entry::{BLOCK, Entry, EntryWriter};
use super::disk::key::EntryKey;
use super::disk::layout;
use super::disk::reservation::Reservation;
use super::encode::frame_encoder::{CHUNK_SIZE, FrameEncoder};
use super::serve::Source;
use super::*;
use crate::config::ZstdConfig;
use crate::config::{self, Config};
use crate::fairness::ClientId;
use crate::store::tests::{GREETING, store_after, valid};

/// Bytes that do not compress, so that several blocks come of them.
fn nar(length: usize, seed: u32) -> Vec<u8> {
    let mut state = 2 * seed + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

fn key(nar: &[u8]) -> EntryKey {
    let nar_hash = NarHash::from_digest(digest(&SHA256, nar).as_ref().try_into().unwrap());
    EntryKey { tag: Arc::new(encoding().tag().clone()), nar_hash }
}

/// A path that has this NAR.
fn path_of(nar: &[u8]) -> StorePath {
    StorePath::from_base_name(&format!("{:032}-{}", nar.len(), nar[0])).unwrap()
}

fn encoding() -> Encoding {
    Encoding::new(ZstdConfig { level: 1, ..ZstdConfig::default() })
}

fn disk(dir: &Path, max_size: u64) -> Arc<DiskCache> {
    Arc::new(DiskCache::open(directory(dir), max_size, Arc::default()).unwrap())
}

fn directory(dir: &Path) -> CacheDirectory {
    CacheDirectory::create(dir, &[]).unwrap()
}

/// Compresses a NAR into the directory; the bytes that are served.
fn fill(disk: &Arc<DiskCache>, nar: &[u8]) -> Vec<u8> {
    let mut reservation = reserve(disk, nar.len()).unwrap();
    let unnamed = disk.create(nar.len() as u64).unwrap();
    let mut writer = EntryWriter::new(Arc::clone(&unnamed.file));
    let mut encoder = FrameEncoder::new(encoding(), nar.len() as u64);
    let mut served = Vec::new();
    for unit in nar.chunks(CHUNK_SIZE) {
        let piece = encoder.encode(unit).unwrap();
        reservation.grow(piece.len() as u64);
        writer.append(&piece).unwrap();
        served.extend(piece);
    }
    let info = writer.finish(key(nar).nar_hash, nar.len() as u64, path_of(nar).base_name()).unwrap();
    assert_eq!(info.sha256[..], *digest(&SHA256, &served).as_ref());
    disk.publish(unnamed, &key(nar), info, true, reservation).unwrap();
    served
}

/// FreeSpace for a NAR of so many bytes, if there is some now.
fn reserve(disk: &Arc<DiskCache>, size: usize) -> Option<Reservation> {
    match pin!(disk.reserve(size as u64)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reserved) => reserved.ok(),
        Poll::Pending => None,
    }
}

fn read_all(disk: &DiskCache, nar: &[u8], entry: &Entry) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < entry.info().size {
        bytes.extend_from_slice(&disk.read(&key(nar), entry, bytes.len() as u64)?);
    }
    Ok(bytes)
}

fn plain(disk: &Arc<DiskCache>, nar: &[u8], entry: Arc<Entry>, first: u64) -> io::Result<Vec<u8>> {
    let (disk, key, read) = (Arc::clone(disk), key(nar), Arc::clone(&entry));
    let mut bytes = Vec::new();
    NarDecoder::new(entry, first, Box::new(move |at| disk.read(&key, &read, at)))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn file(dir: &Path) -> std::path::PathBuf {
    let mut entries = layout::entries(&directory(dir)).unwrap();
    assert_eq!(entries.len(), 1);
    entries.pop().unwrap().1
}

#[test]
fn what_was_written_is_read_from_any_place_on_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let nar = nar(3 * CHUNK_SIZE + 17, 1);
    let served = {
        let disk = disk(dir.path(), 1 << 30);
        fill(&disk, &nar)
    };
    assert!(served.len() as u64 > 3 * BLOCK);
    let disk = disk(dir.path(), 1 << 30);
    assert!(disk.find_in_memory(&key(&nar)).is_err(), "nobody has looked yet");
    let entry = disk.find(&key(&nar)).unwrap();
    assert!(read_all(&disk, &nar, &entry).unwrap() == served);
    for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5, served.len() as u64 - 1] {
        let piece = disk.read(&key(&nar), &entry, at).unwrap();
        assert!(!piece.is_empty() && served[usize::try_from(at).unwrap()..].starts_with(&piece), "{at}");
        let file = disk.file_if_open(&key(&nar)).unwrap();
        assert!(entry.read_in_memory(file.get().unwrap(), at).unwrap().is_none_or(|now| now == piece));
    }
    for first in [0, 1, CHUNK_SIZE, nar.len() - 1] {
        assert!(plain(&disk, &nar, Arc::clone(&entry), first as u64).unwrap() == nar[first..], "{first}");
    }
    disk.scan().unwrap();
    assert_eq!(disk.usage().0, 1);
    assert_eq!(disk.info(&key(&nar)), Some(entry.info()));
}

#[test]
fn a_file_that_was_changed_anywhere_serves_nothing_wrong_and_is_removed() {
    let nar = nar(2 * CHUNK_SIZE, 2);
    let (dir, pristine) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let served = fill(&disk(pristine.path(), 1 << 30), &nar);
    let bytes = fs::read(file(pristine.path())).unwrap();
    let disk = disk(dir.path(), 1 << 30);
    // Every part of the file, and some places in the large one.
    let mut places: Vec<usize> = (served.len() - 40..bytes.len()).collect();
    places.extend([0, 4, 1000, usize::try_from(BLOCK).unwrap(), served.len() / 2]);
    for at in places {
        fill(&disk, &nar);
        let path = file(dir.path());
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        disk.close_file(&key(&nar));
        if let Some(entry) = disk.find(&key(&nar)) {
            let cause = read_all(&disk, &nar, &entry).expect_err("a changed byte was served");
            assert_eq!(cause.kind(), io::ErrorKind::InvalidData, "{at}");
            disk.evict_corrupt(&key(&nar), &cause);
        }
        assert!(!path.exists(), "{at}");
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_none() {
    let nar = nar(1000, 3);
    let dir = TempDir::new().unwrap();
    let disk = disk(dir.path(), 1 << 30);
    fill(&disk, &nar);
    let path = file(dir.path());
    let bytes = fs::read(&path).unwrap();
    for end in 0..bytes.len() {
        fs::write(&path, &bytes[..end]).unwrap();
        disk.close_file(&key(&nar));
        assert!(disk.find(&key(&nar)).is_none() && !path.exists(), "{end}");
    }
    // Nor is one under the name of another NAR.
    let other = key(b"other");
    let name = other.nar_hash.to_nix32();
    let shard = dir.path().join(encoding().tag().as_str()).join(&name[name.len() - 1..]);
    fs::create_dir_all(&shard).unwrap();
    fs::write(shard.join(&name), &bytes).unwrap();
    assert!(disk.find(&other).is_none() && !shard.join(&name).exists());
}

#[test]
fn a_file_that_only_cannot_be_read_is_not_removed() {
    let nar = nar(1000, 10);
    let dir = TempDir::new().unwrap();
    let disk = disk(dir.path(), 1 << 30);
    fill(&disk, &nar);
    let path = file(dir.path());
    // Root may read everything that is there, but not what leads to itself.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    disk.close_file(&key(&nar));
    assert!(disk.find(&key(&nar)).is_none() && path.symlink_metadata().is_ok());
}

#[test]
fn what_a_crash_left_is_removed_and_never_served() {
    let dir = TempDir::new().unwrap();
    let nar = nar(1000, 4);
    {
        let disk = disk(dir.path(), 1 << 30);
        let unnamed = disk.create(nar.len() as u64).unwrap();
        EntryWriter::new(Arc::clone(&unnamed.file)).append(&nar).unwrap();
        // As a process that is killed.
        std::mem::forget(unnamed);
    }
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 1);
    let disk = disk(dir.path(), 1 << 30);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    disk.scan().unwrap();
    assert!(disk.find(&key(&nar)).is_none());
    drop(disk.create(1000).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "a fill that failed left its file");
}

#[test]
fn the_least_recently_used_leave() {
    let dir = TempDir::new().unwrap();
    let nars = [nar(CHUNK_SIZE, 5), nar(CHUNK_SIZE, 6), nar(CHUNK_SIZE, 7)];
    let room = 2 * (CHUNK_SIZE as u64 + (64 << 10));
    let disk = disk(dir.path(), room);
    fill(&disk, &nars[0]);
    fill(&disk, &nars[1]);
    assert!(disk.find(&key(&nars[0])).is_some());
    fill(&disk, &nars[2]);
    let there = |nar: &[u8]| disk.find(&key(nar)).is_some();
    assert_eq!(nars.each_ref().map(|nar| there(nar)), [true, false, true]);
    // Used less recently than the last one by now.
    disk.resize(room / 2);
    assert!(!there(&nars[0]) && there(&nars[2]));
    assert_eq!(layout::entries(&directory(dir.path())).unwrap().len(), disk.usage().0);
}

/// Three fills of 10 MiB had come to 30 in a directory of 16.
#[test]
fn what_fills_write_is_room_that_is_taken() {
    let dir = TempDir::new().unwrap();
    let nar = nar(4 * CHUNK_SIZE, 11);
    let disk = disk(dir.path(), 16 << 20);
    fill(&disk, &nar);
    let mut first = reserve(&disk, 10 << 20).unwrap();
    assert!(reserve(&disk, 10 << 20).is_none(), "two of them do not fit");
    let second = reserve(&disk, 2 << 20).unwrap();
    // What is kept leaves only for what is written.
    first.grow(8 << 20);
    assert_eq!(disk.usage().0, 1);
    first.grow(5 << 20);
    assert_eq!(disk.usage().0, 0);
    drop((first, second));
    assert!(reserve(&disk, 10 << 20).is_some());
    assert!(reserve(&disk, 16 << 20).is_none(), "never");
}

#[test]
fn no_more_files_are_open_than_may_be_and_a_reader_finds_its_own_again() {
    let dir = TempDir::new().unwrap();
    let disk = disk(dir.path(), 1 << 30);
    let nars: Vec<_> = (0..200).map(|seed| nar(1000, 100 + seed)).collect();
    let served: Vec<_> = nars.iter().map(|nar| fill(&disk, nar)).collect();
    let entries: Vec<_> = nars.iter().map(|nar| disk.find(&key(nar)).unwrap()).collect();
    // Readers have all of them, and descriptors of those that were read last.
    let open = || nars.iter().filter(|nar| disk.file_if_open(&key(nar)).is_some()).count();
    assert_eq!(open(), 128);
    for ((nar, entry), served) in nars.iter().zip(&entries).zip(&served) {
        assert!(read_all(&disk, nar, entry).unwrap() == *served);
    }
    assert_eq!(open(), 128);
}

#[test]
fn only_files_of_our_names_are_removed_and_nothing_behind_a_link() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (tmp, nar) = (dir.path().join("tmp"), nar(1000, 3));
    let taken = directory(dir.path());
    fs::create_dir(&tmp).unwrap();
    for name in ["notes.txt", "12", "12.bak", "12.part", "x.part", ".part"] {
        fs::write(tmp.join(name), "").unwrap();
    }
    std::os::unix::fs::symlink("12", tmp.join("13.part")).unwrap();
    fs::create_dir(tmp.join("14.part")).unwrap();
    // A file of the name of an entry, by links to each directory above it, and a link of its name.
    let entry = layout::path(&taken, &key(&nar));
    let (shard, encoding) = (entry.parent().unwrap(), entry.parent().unwrap().parent().unwrap());
    let aside = elsewhere.path().join("aside");
    fs::create_dir_all(aside.join(shard.file_name().unwrap())).unwrap();
    let theirs = aside.join(shard.file_name().unwrap()).join(entry.file_name().unwrap());
    fs::write(&theirs, "theirs").unwrap();
    let look = || {
        let disk = disk(dir.path(), 1 << 30);
        disk.scan().unwrap();
        assert!(verify(&taken).unwrap().next().is_none());
        assert_eq!((clear(&taken).unwrap(), stats(&taken).unwrap(), disk.usage()), (0, (0, 0), (0, 0)));
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    };
    std::os::unix::fs::symlink(&aside, encoding).unwrap();
    look();
    fs::remove_file(encoding).unwrap();
    fs::create_dir(encoding).unwrap();
    std::os::unix::fs::symlink(theirs.parent().unwrap(), shard).unwrap();
    look();
    fs::remove_file(shard).unwrap();
    fs::create_dir(shard).unwrap();
    std::os::unix::fs::symlink(&theirs, &entry).unwrap();
    look();
    let mut left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".part", "12", "12.bak", "13.part", "14.part", "notes.txt", "x.part"]);
    // Nor is anything written through one.
    fs::remove_dir_all(&tmp).unwrap();
    std::os::unix::fs::symlink(&aside, &tmp).unwrap();
    let error = DiskCache::open(taken, 1 << 30, Arc::default()).unwrap_err();
    assert!(error.to_string().contains("tmp in it is a symbolic link\n  help: "), "{error}");
}

#[test]
fn a_directory_has_one_user() {
    let dir = TempDir::new().unwrap();
    let _disk = disk(dir.path(), 1 << 30);
    assert!(matches!(DiskCache::open(directory(dir.path()), 1 << 30, Arc::default()), Err(DirectoryError::Locked(_))));
}

#[test]
fn operators_see_count_and_prove_and_clear() {
    let dir = TempDir::new().unwrap();
    let disk = disk(dir.path(), 1 << 30);
    let nars = [nar(1000, 8), nar(2000, 9)];
    for nar in &nars {
        fill(&disk, nar);
    }
    assert_eq!(stats(&directory(dir.path())).unwrap().0, 2);
    assert!(verify(&directory(dir.path())).unwrap().all(|verdict| verdict.fault.is_none()));
    let (_, path) = layout::entries(&directory(dir.path())).unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    let faults: Vec<_> = verify(&directory(dir.path())).unwrap().filter(|verdict| verdict.fault.is_some()).collect();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].path, path);
    assert!(!path.exists());
    assert_eq!(clear(&directory(dir.path())).unwrap(), 1);
    assert_eq!(stats(&directory(dir.path())).unwrap(), (0, 0));
    // The server finds out.
    assert!(nars.iter().all(|nar| {
        disk.close_file(&key(nar));
        disk.find(&key(nar)).is_none()
    }));
    assert_eq!(disk.usage(), (0, 0));
}

#[tokio::test]
async fn a_fill_that_panics_is_over_for_all_who_wait_and_another_can_begin() {
    let dir = TempDir::new().unwrap();
    let mut settings = None;
    let change = |config: &mut Config| {
        let max_size = "1G".parse().unwrap();
        config.nar_cache = Some(config::NarCacheConfig {
            dir: dir.path().join("nars"),
            max_size,
            precompress: config::Precompress::Off,
        });
        settings = Some(config.clone());
    };
    let (_directory, store) = store_after(GREETING, change, |_, _| std::future::ready(()));
    let cache = NarCache::open(&settings.unwrap(), Arc::new(store), Arc::default()).unwrap();
    let path = StorePath::from_base_name(&format!("{:032}-panics", 1)).unwrap();
    let valid = Arc::new(valid(path));
    for _ in 0..2 {
        let Source::Fill(mut fill) = cache.get_or_fill(&valid, ClientId::Server).await.unwrap().source else {
            panic!("there is something on disk")
        };
        let end = fill.wait_for(|progress| progress.end.is_some()).await.unwrap().end.clone();
        assert!(matches!(end, Some(Err(FillError::Encoder(_)))), "{end:?}");
        assert!(cache.fills.is_empty());
    }
}
