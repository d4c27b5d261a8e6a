//! What an operator does to a directory of compressed NARs, also while a server uses it: files are looked at and
//! unlinked, and the server finds that they are gone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;
use ring::digest;

use super::directory::{CacheDirectory, DirectoryError};
use super::entry::Entry;
use super::layout::entries;
use super::plain::Decoded;
use super::room;
use crate::config::Config;

/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// Returns the reason why narinfos name no compressed NARs, if they do not.
#[must_use]
pub fn off(config: &Config) -> Option<&'static str> {
    match &config.nar_cache {
        _ if config.enable_compression => None,
        Some(_) => Some("enable_compression = false"),
        None => {
            Some("no directory keeps compressed ones (nar_cache.dir or CACHE_DIRECTORY, with a nar_cache.max_size)")
        }
    }
}

/// Looks at what serving needs to keep compressed NARs where that is on, and changes nothing. The texts say where they are
/// kept, and what an operator should know of the room for them.
pub fn look(config: &Config) -> Result<Vec<String>, DirectoryError> {
    let Some(settings) = config.nar_cache.as_ref().filter(|_| config.enable_compression) else { return Ok(Vec::new()) };
    let failed = |cause| DirectoryError::Io { path: settings.dir.clone(), cause };
    let used = match CacheDirectory::configured(config)? {
        Some(dir) => stats(&dir).map_err(failed)?.1,
        None => 0,
    };
    let (dir, max_size) = (settings.dir.display(), settings.max_size.bytes());
    let mut texts = vec![format!("on, nars are kept in {dir}, {} MiB at the most", max_size >> 20)];
    texts.extend(room::shortage(&settings.dir, max_size, used).map_err(failed)?);
    Ok(texts)
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

/// What was found of one file.
#[derive(Debug)]
pub struct Verdict {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why it was removed, if it was not what it should be.
    pub fault: Option<io::Error>,
}

/// Reads every NAR to its end, compares its hash with its name, and removes what is not right.
pub fn verify(dir: &CacheDirectory) -> io::Result<impl Iterator<Item = Verdict>> {
    let verdict = |nar_hash, path: PathBuf| {
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let fault = File::open(&path).and_then(|file| prove(file, nar_hash)).err();
        // Gone meanwhile is no fault.
        let fault = fault.filter(|cause| cause.kind() != io::ErrorKind::NotFound);
        if fault.is_some() {
            let _ = fs::remove_file(&path);
        }
        Verdict { path, bytes, fault }
    };
    Ok(entries(dir)?.into_iter().map(move |(key, path)| verdict(key.nar_hash, path)))
}

fn prove(file: File, nar_hash: NarHash) -> io::Result<()> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let entry = Arc::new(Entry::of(&file, nar_hash)?);
    let mut sha256 = digest::Context::new(&digest::SHA256);
    let mut at = 0;
    while at < entry.info().size {
        let piece = entry.read(&file, at)?;
        sha256.update(&piece);
        at += piece.len() as u64;
    }
    if sha256.finish().as_ref() != entry.info().sha256 {
        return wrong("it has another hash than it says");
    }
    let read = {
        let entry = Arc::clone(&entry);
        move |at| entry.read(&file, at)
    };
    let mut nar = Decoded::new(Arc::clone(&entry), 0, Box::new(read))?;
    let (mut sha256, mut buffer) = (digest::Context::new(&digest::SHA256), vec![0; PIECE]);
    loop {
        match nar.read(&mut buffer)? {
            0 => break,
            read => sha256.update(&buffer[..read]),
        }
    }
    if sha256.finish().as_ref() != entry.nar_hash().as_bytes() {
        return wrong("it has another nar than its name says");
    }
    Ok(())
}
