//! Verifies the files of a directory of compressed NARs, also while a server uses it: corrupt ones are removed, which the
//! server notices.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest;

use crate::nar_cache::disk::decode::NarDecoder;
use crate::nar_cache::disk::directory::CacheDirectory;
use crate::nar_cache::disk::entry::Entry;
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::disk::layout::entries;

/// Size of the buffer for decoded bytes.
const BUFFER_SIZE: usize = 128 << 10;

/// The result of verifying one file.
#[derive(Debug)]
pub struct FileCheck {
    /// Path of the file.
    pub path: PathBuf,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The reason for which it was removed as corrupt.
    pub fault: Option<io::Error>,
}

/// Verifies every file: reads it whole, decodes the NAR and compares its hash with the file name. Removes corrupt files.
pub fn verify(dir: &CacheDirectory) -> io::Result<impl Iterator<Item = FileCheck>> {
    let check = |key: &EntryKey, path: PathBuf| {
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let fault = File::open(&path).and_then(|file| verify_file(file, key)).err();
        // A file that was evicted meanwhile is not corrupt.
        let fault = fault.filter(|cause| cause.kind() != io::ErrorKind::NotFound);
        if fault.is_some() {
            let _ = fs::remove_file(&path);
        }
        FileCheck { path, bytes, fault }
    };
    Ok(entries(dir)?.into_iter().map(move |(key, path)| check(&key, path)))
}

fn verify_file(file: File, key: &EntryKey) -> io::Result<()> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let entry = Arc::new(Entry::read_trailer(&file, key)?);
    let mut sha256 = digest::Context::new(&digest::SHA256);
    let mut at = 0;
    while at < entry.info().size {
        let piece = entry.read(&file, at)?;
        sha256.update(&piece);
        at += piece.len() as u64;
    }
    if sha256.finish().as_ref() != entry.info().sha256 {
        return wrong("SHA-256 mismatch");
    }
    if key.is_fetched() {
        return if entry.info().sha256 == *key.nar_hash.as_bytes() {
            Ok(())
        } else {
            wrong("SHA-256 does not match the file name")
        };
    }
    let read = {
        let entry = Arc::clone(&entry);
        move |at| entry.read(&file, at)
    };
    let mut nar = NarDecoder::new(Arc::clone(&entry), 0, Box::new(read))?;
    let (mut sha256, mut buffer) = (digest::Context::new(&digest::SHA256), vec![0; BUFFER_SIZE]);
    loop {
        match nar.read(&mut buffer)? {
            0 => break,
            read => sha256.update(&buffer[..read]),
        }
    }
    if sha256.finish().as_ref() != entry.nar_hash().as_bytes() {
        return wrong("NAR hash does not match the file name");
    }
    Ok(())
}
