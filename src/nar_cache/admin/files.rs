//! Lists, counts and removes the files of a directory of compressed NARs, also while a server uses it: the server notices that
//! they are gone.

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
    /// Base name of the store path that it was compressed for. Others may have the same NAR.
    pub path: Option<String>,
    /// Hash of the NAR, as in a narinfo.
    pub nar_hash: String,
    /// Tag of the encoding, as in a URL.
    pub encoding: String,
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// Size of its compressed form in bytes.
    pub file_size: u64,
    /// Time of the last request for it, or of its compression, in seconds since 1970.
    pub last_used: u64,
}

/// Lists all compressed NARs, in no order. Skips those that cannot be read or are removed meanwhile.
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

/// Returns the number of files and their total size in bytes.
pub fn stats(dir: &CacheDirectory) -> io::Result<(usize, u64)> {
    let mut found = (0, 0);
    for (_, path) in entries(dir)? {
        // Any of them may be evicted at any time.
        if let Ok(metadata) = path.metadata() {
            found = (found.0 + 1, found.1 + metadata.len());
        }
    }
    Ok(found)
}

/// Removes all compressed NARs. Returns how many there were.
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

/// Number and size of removed files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Number of compressed NARs.
    pub nars: usize,
    /// Their total size in bytes.
    pub bytes: u64,
}

/// Paths whose files are selected: by NAR hash if that is known, else by the name in the file.
#[derive(Debug, Default)]
pub struct Selection {
    /// NAR hashes of valid paths.
    pub nar_hashes: HashSet<NarHash>,
    /// Hash parts of paths whose NAR hash is not known.
    pub hash_parts: HashSet<HashPart>,
}

/// Returns the files of these paths with their sizes.
pub(crate) fn matching(dir: &CacheDirectory, selection: &Selection) -> io::Result<Vec<(EntryKey, u64, PathBuf)>> {
    let is_named = |key: &EntryKey, path: &PathBuf| {
        let read_descriptiond = || read_description(&File::open(path).ok()?, key.nar_hash).ok()?.path;
        !selection.hash_parts.is_empty()
            && read_descriptiond().is_some_and(|path| selection.hash_parts.contains(&path.hash_part()))
    };
    let is_selected =
        |key: &EntryKey, path: &PathBuf| selection.nar_hashes.contains(&key.nar_hash) || is_named(key, path);
    let found = entries(dir)?.into_iter().filter(|(key, path)| is_selected(key, path));
    // One that was evicted meanwhile takes no space.
    let size = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    Ok(found.map(|(key, path)| (key, size(&path), path)).collect())
}

/// Removes the compressed NARs of these paths.
pub fn remove(dir: &CacheDirectory, selection: &Selection) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for (_, bytes, path) in matching(dir, selection)? {
        match fs::remove_file(path) {
            Ok(()) => removed = Removed { nars: removed.nars + 1, bytes: removed.bytes + bytes },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(removed)
}
