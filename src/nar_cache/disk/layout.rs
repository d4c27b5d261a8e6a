//! Names in a directory of compressed NARs.
//!
//! `<encoding>/<digit>/<NAR hash>` is an entry, `tmp/<number>.part` is what is being written. Whatever has another name is
//! not ours, and is left alone, and so is everything behind a symbolic link.

use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use super::directory::CacheDirectory;
use super::key::EntryKey;
use crate::nar_cache::encode::encoding::EncodingTag;

/// Most files that are looked at below one directory.
const MAX_FILES: usize = 1 << 20;
/// The directory of what is being written.
const TEMPORARY: &str = "tmp";
/// The end of the names in it.
const PART: &str = ".part";

/// All files of a directory of NARs, by their names; files of other names are passed over.
pub(crate) fn entries(dir: &CacheDirectory) -> io::Result<Vec<(EntryKey, PathBuf)>> {
    let mut found = Vec::new();
    for encoding in children(dir.path())? {
        let Some(tag) = name(&encoding).and_then(|name| name.parse::<EncodingTag>().ok()) else { continue };
        if !is_directory(&encoding) {
            continue;
        }
        let tag = Arc::new(tag);
        for shard in children(&encoding.path())? {
            // What cannot be read is not ours.
            let files = if is_directory(&shard) { children(&shard.path()).unwrap_or_default() } else { Vec::new() };
            for file in files {
                let nar_hash = name(&file).and_then(|name| NarHash::from_nix32(&name));
                let key = nar_hash.map(|nar_hash| EntryKey { tag: Arc::clone(&tag), nar_hash });
                let is_ours = |key: &EntryKey| path(dir, key) == file.path() && is_file(&file);
                if let Some(key) = key.filter(is_ours) {
                    found.push((key, file.path()));
                }
            }
        }
    }
    Ok(found)
}

/// The file of an entry.
pub(crate) fn path(dir: &CacheDirectory, key: &EntryKey) -> PathBuf {
    let hash = key.nar_hash.to_nix32();
    // The last digit, one of 32: the first one is 0 or 1.
    let shard = &hash[hash.len() - 1..];
    [dir.path().as_os_str(), key.tag.as_str().as_ref(), shard.as_ref(), hash.as_ref()].iter().collect()
}

fn name(entry: &DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}

/// Whether it is a directory itself, and no link to one.
fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

fn children(dir: &Path) -> io::Result<Vec<DirEntry>> {
    dir.read_dir()?.take(MAX_FILES).collect()
}

/// Renames into a directory, which is made if it is not there yet.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match (fs::rename(from, to), to.parent()) {
        (Err(cause), Some(parent)) if cause.kind() == io::ErrorKind::NotFound => {
            make_one(parent)?;
            fs::rename(from, to)
        }
        (renamed, _) => renamed,
    }
}

/// Makes the directory of what is being written.
pub(crate) fn make(dir: &CacheDirectory) -> io::Result<()> {
    let temporary = dir.path().join(TEMPORARY);
    make_one(&temporary)?;
    if temporary.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{TEMPORARY} in it is a symbolic link")))
}

/// A name for what is being written.
pub(crate) fn temporary(dir: &CacheDirectory, number: u64) -> PathBuf {
    dir.path().join(TEMPORARY).join(format!("{number}{PART}"))
}

/// Lists files that earlier processes were writing.
pub(crate) fn temporaries(dir: &CacheDirectory) -> io::Result<Vec<PathBuf>> {
    let is_ours = |entry: &DirEntry| {
        let name = name(entry);
        let number = name.as_deref().and_then(|name| name.strip_suffix(PART));
        is_file(entry) && number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    let left = children(&dir.path().join(TEMPORARY))?;
    Ok(left.into_iter().filter(is_ours).map(|entry| entry.path()).collect())
}

fn make_one(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
