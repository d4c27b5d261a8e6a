//! File names in a directory of compressed NARs.
//!
//! `<encoding>/<digit>/<NAR hash>` is an entry, `tmp/<number>.part` a file that is being written. Files with other names, and
//! everything behind a symbolic link, are not harmonia's and are left alone.

use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use super::directory::CacheDirectory;
use super::key::EntryKey;
use crate::nar_cache::encode::encoding::EncodingTag;

/// Limit on the entries that are read of one directory.
const MAX_FILES: usize = 1 << 20;
/// Directory of temporary files.
const TEMP_DIR: &str = "tmp";
/// Extension of temporary files.
const TEMP_EXTENSION: &str = ".part";

/// Lists the entries of a directory of compressed NARs by their names. Skips files with other names.
pub(crate) fn entries(dir: &CacheDirectory) -> io::Result<Vec<(EntryKey, PathBuf)>> {
    let mut found = Vec::new();
    for encoding in children(dir.path())? {
        let Some(tag) = name(&encoding).and_then(|name| name.parse::<EncodingTag>().ok()) else { continue };
        if !is_directory(&encoding) {
            continue;
        }
        let tag = Arc::new(tag);
        for shard in children(&encoding.path())? {
            // A directory that cannot be read is not harmonia's.
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

/// Returns the path of an entry's file.
pub(crate) fn path(dir: &CacheDirectory, key: &EntryKey) -> PathBuf {
    let hash = key.nar_hash.to_nix32();
    // The last digit, one of 32: the first is always 0 or 1.
    let shard = &hash[hash.len() - 1..];
    [dir.path().as_os_str(), key.tag.as_str().as_ref(), shard.as_ref(), hash.as_ref()].iter().collect()
}

fn name(entry: &DirEntry) -> Option<String> {
    entry.file_name().into_string().ok()
}

/// Returns whether it is a directory, and not a link to one.
fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

fn children(dir: &Path) -> io::Result<Vec<DirEntry>> {
    dir.read_dir()?.take(MAX_FILES).collect()
}

/// Renames a file into a directory, which is created if it does not exist.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match (fs::rename(from, to), to.parent()) {
        (Err(cause), Some(parent)) if cause.kind() == io::ErrorKind::NotFound => {
            create_dir(parent)?;
            fs::rename(from, to)
        }
        (renamed, _) => renamed,
    }
}

/// Creates the directory of temporary files.
pub(crate) fn create_temp_dir(dir: &CacheDirectory) -> io::Result<()> {
    let temp_dir = dir.path().join(TEMP_DIR);
    create_dir(&temp_dir)?;
    if temp_dir.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{TEMP_DIR} in it is a symbolic link")))
}

/// Returns the path of a temporary file.
pub(crate) fn temp_file(dir: &CacheDirectory, number: u64) -> PathBuf {
    dir.path().join(TEMP_DIR).join(format!("{number}{TEMP_EXTENSION}"))
}

/// Lists the temporary files of earlier processes.
pub(crate) fn temp_files(dir: &CacheDirectory) -> io::Result<Vec<PathBuf>> {
    let is_ours = |entry: &DirEntry| {
        let name = name(entry);
        let number = name.as_deref().and_then(|name| name.strip_suffix(TEMP_EXTENSION));
        is_file(entry) && number.is_some_and(|number| number.parse::<u64>().is_ok())
    };
    let left = children(&dir.path().join(TEMP_DIR))?;
    Ok(left.into_iter().filter(is_ours).map(|entry| entry.path()).collect())
}

fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
