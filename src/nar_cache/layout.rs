//! Names in a directory of compressed NARs.
//!
//! `<encoding>/<digit>/<NAR hash>` is an entry, `tmp/<number>` is what is being written. Whatever has another name is not
//! ours, and is left alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;

use super::encoding::EncodingTag;
use super::index::Key;

/// Most files that are looked at below one directory.
const MAX_FILES: usize = 1 << 20;
/// The directory of what is being written.
const TEMPORARY: &str = "tmp";

/// All files of a directory of NARs, by their names; files of other names are passed over.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<(Key, PathBuf)>> {
    let mut found = Vec::new();
    for encoding in files(dir)? {
        let Some(tag) = name(&encoding).and_then(|name| name.parse::<EncodingTag>().ok()) else { continue };
        let tag = Arc::new(tag);
        for shard in files(&encoding)? {
            // What is no directory is not ours.
            for file in files(&shard).unwrap_or_default() {
                let nar_hash = name(&file).and_then(NarHash::from_nix32);
                let key = nar_hash.map(|nar_hash| Key { tag: Arc::clone(&tag), nar_hash });
                if let Some(key) = key.filter(|key| path(dir, key) == file) {
                    found.push((key, file));
                }
            }
        }
    }
    Ok(found)
}

/// The file of an entry.
pub(super) fn path(dir: &Path, key: &Key) -> PathBuf {
    let hash = key.nar_hash.to_nix32();
    // The last digit, one of 32: the first one is 0 or 1.
    let shard = &hash[hash.len() - 1..];
    [dir.as_os_str(), key.tag.as_str().as_ref(), shard.as_ref(), hash.as_ref()].iter().collect()
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    dir.read_dir()?.take(MAX_FILES).map(|entry| Ok(entry?.path())).collect()
}

/// Renames into a directory, which is made if it is not there yet.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match (fs::rename(from, to), to.parent()) {
        (Err(cause), Some(parent)) if cause.kind() == io::ErrorKind::NotFound => {
            make_one(parent)?;
            fs::rename(from, to)
        }
        (renamed, _) => renamed,
    }
}

/// Makes the directory of a cache.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    make_one(&dir.join(TEMPORARY))
}

/// A name for what is being written.
pub(super) fn temporary(dir: &Path, number: u64) -> PathBuf {
    dir.join(TEMPORARY).join(number.to_string())
}

/// What earlier processes were writing. The directory may be one that others use, so these are ours by name.
pub(super) fn temporaries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = files(&dir.join(TEMPORARY))?;
    left.retain(|path| name(path).is_some_and(|name| name.bytes().all(|digit| digit.is_ascii_digit())));
    Ok(left)
}

fn make_one(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
