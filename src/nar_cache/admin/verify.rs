//! Verifies the files of a directory of compressed NARs, also while a server uses it: corrupt ones are removed, which the
//! server notices.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use harmonia_protocol::hash::NarHash;
use ring::digest;

use crate::nar_cache::disk::decode::NarDecoder;
use crate::nar_cache::disk::directory::CacheDirectory;
use crate::nar_cache::disk::entry::Entry;
use crate::nar_cache::disk::layout::entries;

/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// What was found of one file.
#[derive(Debug)]
pub struct FileCheck {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why it was removed, if it was not what it should be.
    pub fault: Option<io::Error>,
}

/// Reads every NAR to its end, compares its hash with its name, and removes what is not right.
pub fn verify(dir: &CacheDirectory) -> io::Result<impl Iterator<Item = FileCheck>> {
    let verdict = |nar_hash, path: PathBuf| {
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let fault = File::open(&path).and_then(|file| verify_file(file, nar_hash)).err();
        // Gone meanwhile is no fault.
        let fault = fault.filter(|cause| cause.kind() != io::ErrorKind::NotFound);
        if fault.is_some() {
            let _ = fs::remove_file(&path);
        }
        FileCheck { path, bytes, fault }
    };
    Ok(entries(dir)?.into_iter().map(move |(key, path)| verdict(key.nar_hash, path)))
}

fn verify_file(file: File, nar_hash: NarHash) -> io::Result<()> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let entry = Arc::new(Entry::read_trailer(&file, nar_hash)?);
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
    let mut nar = NarDecoder::new(Arc::clone(&entry), 0, Box::new(read))?;
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
