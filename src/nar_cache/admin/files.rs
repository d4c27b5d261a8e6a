//! Compressed NARs on disk one by one: what operators are told of each, and which of them are those of some paths.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use harmonia_protocol::HashPart;
use harmonia_protocol::hash::NarHash;
use serde::{Deserialize, Serialize};

use crate::nar_cache::disk::directory::CacheDirectory;
use crate::nar_cache::disk::entry::{Description, read_description};
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::disk::layout::entries;

/// A compressed NAR on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedNar {
    /// The base name of the store path that it was made for. Others may have the same NAR.
    pub path: Option<String>,
    /// The hash of the NAR, as in a narinfo.
    pub nar_hash: String,
    /// The name of the encoder with its settings, as in a URL.
    pub encoding: String,
    /// The length of the NAR in bytes.
    pub nar_size: u64,
    /// The length of its compressed form in bytes.
    pub file_size: u64,
    /// The time at which it was asked for last, or made, in seconds since 1970.
    pub last_used: u64,
}

/// Looks at every compressed NAR, in no order. Those that cannot be read, or leave meanwhile, are passed over.
pub fn list(dir: &CacheDirectory) -> io::Result<impl Iterator<Item = CachedNar>> {
    let look = |(key, path): (EntryKey, PathBuf)| {
        let file = File::open(path).ok()?;
        let Description { info, nar_size, path } = read_description(&file, key.nar_hash).ok()?;
        let used = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some(CachedNar {
            path: path.map(|path| path.base_name().to_owned()),
            nar_hash: format!("sha256:{}", key.nar_hash.to_nix32()),
            encoding: key.tag.as_str().to_owned(),
            nar_size,
            file_size: info.size,
            last_used: used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        })
    };
    Ok(entries(dir)?.into_iter().filter_map(look))
}

/// How many NARs there are, and what their files take in bytes.
pub fn stats(dir: &CacheDirectory) -> io::Result<(usize, u64)> {
    let mut found = (0, 0);
    for (_, path) in entries(dir)? {
        // One may leave at any time.
        if let Ok(metadata) = path.metadata() {
            found = (found.0 + 1, found.1 + metadata.len());
        }
    }
    Ok(found)
}

/// Removes all NARs; how many there were.
pub fn clear(dir: &CacheDirectory) -> io::Result<usize> {
    let mut removed = 0;
    for (_, path) in entries(dir)? {
        match fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(removed)
}

/// The outcome of a removal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Compressed NARs.
    pub nars: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Paths whose NARs are looked for: by their NAR hash where that is known, else by the name in the file.
#[derive(Debug, Default)]
pub struct Selection {
    /// Those of which the daemon knows the hash.
    pub nar_hashes: HashSet<NarHash>,
    /// Those that are not valid any more.
    pub hash_parts: HashSet<HashPart>,
}

/// The files of these paths, and their sizes.
pub(crate) fn matching(dir: &CacheDirectory, wanted: &Selection) -> io::Result<Vec<(EntryKey, u64, PathBuf)>> {
    let is_named = |key: &EntryKey, path: &PathBuf| {
        let read_descriptiond = || read_description(&File::open(path).ok()?, key.nar_hash).ok()?.path;
        !wanted.hash_parts.is_empty()
            && read_descriptiond().is_some_and(|path| wanted.hash_parts.contains(&path.hash_part()))
    };
    let is_wanted = |key: &EntryKey, path: &PathBuf| wanted.nar_hashes.contains(&key.nar_hash) || is_named(key, path);
    let found = entries(dir)?.into_iter().filter(|(key, path)| is_wanted(key, path));
    // One that leaves meanwhile takes no room either.
    let size = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    Ok(found.map(|(key, path)| (key, size(&path), path)).collect())
}

/// Removes the compressed NARs of these paths. A server that runs finds out.
pub fn remove(dir: &CacheDirectory, wanted: &Selection) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for (_, bytes, path) in matching(dir, wanted)? {
        match fs::remove_file(path) {
            Ok(()) => removed = Removed { nars: removed.nars + 1, bytes: removed.bytes + bytes },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(removed)
}
