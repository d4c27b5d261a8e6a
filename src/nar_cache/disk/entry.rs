//! The file of one compressed NAR: its bytes as they are served, and a trailer with their checksums.
//!
//! Owns the file format. No served byte is returned unless the checksum of its block matches, so that corruption on disk
//! never reaches a client. The trailer is written last and has its own checksums; a truncated file has none. Leaves names
//! and eviction to `disk_cache`.
//!
//! | part | bytes |
//! |---|---|
//! | frames and seek table (`encode`) | length served |
//! | XXH3 of each [`BLOCK`] of these, little endian | 8 each |
//! | base name of the store path that it was compressed for, for operators | up to 244 |
//! | footer: magic, length served, NAR size, NAR hash, SHA-256 of the bytes served, XXH3 of checksums and name, length of the name, XXH3 of the footer | 112 |

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, IoSliceMut};
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::StorePath;
use harmonia_protocol::hash::NarHash;
use ring::digest;
use rustix::io::ReadWriteFlags;
use twox_hash::XxHash3_64;

use super::buffer_pool::{BUFFER_SIZE, Buffer};
use super::file::DiskFile;
use super::key::EntryKey;
use crate::nar_cache::encode::seek_table::{Frame, frame_count, parse_seek_table, seek_table_len};

/// Bytes under one checksum, which are read at once.
pub(crate) const BLOCK: u64 = BUFFER_SIZE as u64;
const MAGIC: [u8; 8] = *b"harmnar2";
const FOOTER: usize = 8 + 8 + 8 + 32 + 32 + 8 + 8 + 8;
/// Longest base name of a store path: hash part, dash and name (`checkName` in Nix's path.cc).
const MAX_NAME: u64 = 32 + 1 + 211;
const CHECKSUM_LEN: usize = 8;

/// Size of the NAR of an entry that is a file from elsewhere, of whose NAR nothing is known: it has no frames to decode.
pub(crate) const NO_NAR: u64 = 0;

/// `FileHash` and `FileSize` of a narinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// SHA-256 of the compressed NAR.
    pub sha256: [u8; 32],
    /// Size of the compressed NAR in bytes.
    pub size: u64,
}

/// The trailer of a compressed NAR on disk. Any open file of the entry may be passed to the methods that read: no byte is
/// returned that does not match the checksums.
#[derive(Debug)]
pub(crate) struct Entry {
    info: FileInfo,
    nar_hash: NarHash,
    nar_size: u64,
    frames: Vec<Frame>,
    checksums: Vec<u64>,
}

impl Entry {
    /// Reads and verifies the trailer of the entry with this key, and the seek table if it has one.
    pub(crate) fn read_trailer(file: &File, key: &EntryKey) -> io::Result<Self> {
        let whole = file.metadata()?.len();
        let footer = Footer::read(file, whole)?;
        let nar_hash = key.nar_hash;
        if footer.nar_hash != nar_hash {
            return Err(corrupt("NAR hash does not match the file name"));
        }
        let (length, nar_size) = (footer.info.size, footer.nar_size);
        let name = usize::try_from(footer.name).unwrap_or_default();
        let mut checksums = vec![0; checksums_len(length) + name];
        file.read_exact_at(&mut checksums, length)?;
        if XxHash3_64::oneshot(&checksums) != footer.checksums_checksum {
            return Err(corrupt("checksum mismatch in the trailer"));
        }
        checksums.truncate(checksums.len() - name);
        let checksums = checksums
            .chunks_exact(CHECKSUM_LEN)
            .filter_map(|checksum| Some(u64::from_le_bytes(checksum.try_into().ok()?)))
            .collect();
        let mut entry = Self { info: footer.info, nar_hash, nar_size, frames: Vec::new(), checksums };
        if key.is_fetched() {
            return if nar_size == NO_NAR { Ok(entry) } else { Err(corrupt("it has a NAR")) };
        }
        let table = frame_count(nar_size).map(seek_table_len).filter(|table| *table as u64 <= length);
        let table = table.ok_or_else(|| corrupt("too short for its seek table"))?;
        let table = entry.read_verified(file, length - table as u64, table)?;
        entry.frames = parse_seek_table(&table, length, nar_size).ok_or_else(|| corrupt("malformed seek table"))?;
        Ok(entry)
    }

    /// Returns its hash and size.
    pub(crate) const fn info(&self) -> FileInfo {
        self.info
    }

    /// Returns the hash of the uncompressed NAR.
    pub(crate) const fn nar_hash(&self) -> NarHash {
        self.nar_hash
    }

    /// Returns the size of the uncompressed NAR in bytes.
    pub(crate) const fn nar_size(&self) -> u64 {
        self.nar_size
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Reads from `at` to the end of that block if all of the block is in the page cache, so that it never waits for the disk.
    /// Otherwise, or if the system cannot tell, it returns `None`.
    pub(crate) fn read_in_memory(&self, file: &File, at: u64) -> io::Result<Option<Bytes>> {
        let (index, length) = self.block(at);
        let block = read_cached(file, index as u64 * BLOCK, length);
        block.map(|block| self.verify_block(index, block, at)).transpose()
    }

    /// Reads from `at` to the end of that block. May wait for the disk.
    pub(crate) fn read(&self, file: &File, at: u64) -> io::Result<Bytes> {
        let (index, length) = self.block(at);
        let mut block = Buffer::new(length);
        file.read_exact_at(block.as_mut(), index as u64 * BLOCK)?;
        self.verify_block(index, block, at)
    }

    /// Reads `length` bytes from `at`.
    fn read_verified(&self, file: &File, mut at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let piece = self.read(file, at)?;
            let taken = piece.len().min(length - bytes.len());
            bytes.extend_from_slice(&piece[..taken]);
            at += taken as u64;
        }
        Ok(bytes)
    }

    /// Returns the index and the length of the block with the byte `at`.
    fn block(&self, at: u64) -> (usize, usize) {
        let index = at / BLOCK;
        let length = (self.info.size - index * BLOCK).min(BLOCK);
        (usize::try_from(index).unwrap_or(usize::MAX), usize::try_from(length).unwrap_or_default())
    }

    fn verify_block(&self, index: usize, block: Buffer, at: u64) -> io::Result<Bytes> {
        if self.checksums.get(index) != Some(&XxHash3_64::oneshot(block.as_ref())) {
            return Err(corrupt("checksum mismatch"));
        }
        let within = usize::try_from(at - index as u64 * BLOCK).map_err(io::Error::other)?;
        Ok(Bytes::from_owner(block).slice(within..))
    }
}

/// Returns the upper bound of the bytes that count for the entry of a NAR of `size` bytes, trailer and overhead included.
pub(crate) const fn max_file_size(size: u64) -> u64 {
    size.saturating_add(size / 128).saturating_add(1 << 20)
}

/// Reads `length` bytes of a file if all of them are in the page cache. Returns `None` otherwise, or if the system cannot tell.
pub(crate) fn read_cached(file: &File, at: u64, length: usize) -> Option<Buffer> {
    let mut block = Buffer::new(length);
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(block.as_mut())], at, ReadWriteFlags::NOWAIT);
    (read == Ok(length)).then_some(block)
}

/// Reads only the footer of a file, for its hash and size.
pub(crate) fn read_file_info(file: &File, nar_hash: NarHash) -> io::Result<FileInfo> {
    let footer = Footer::read(file, file.metadata()?.len())?;
    if footer.nar_hash == nar_hash { Ok(footer.info) } else { Err(corrupt("NAR hash does not match the file name")) }
}

/// The end of a file, for operators.
pub(crate) struct Description {
    pub(crate) info: FileInfo,
    pub(crate) nar_size: u64,
    /// The path that it was compressed for; others may have the same NAR.
    pub(crate) path: Option<StorePath>,
}

/// Reads the end of a file without verifying the rest.
pub(crate) fn read_description(file: &File, nar_hash: NarHash) -> io::Result<Description> {
    let whole = file.metadata()?.len();
    let Footer { info, nar_size, nar_hash: found, name, .. } = Footer::read(file, whole)?;
    if found != nar_hash {
        return Err(corrupt("NAR hash does not match the file name"));
    }
    let mut path = vec![0; usize::try_from(name).unwrap_or_default()];
    file.read_exact_at(&mut path, whole - FOOTER as u64 - name)?;
    let path = std::str::from_utf8(&path).ok().and_then(|name| StorePath::from_base_name(name).ok());
    Ok(Description { info, nar_size, path })
}

struct Footer {
    info: FileInfo,
    nar_size: u64,
    nar_hash: NarHash,
    /// Checksum of checksums and name.
    checksums_checksum: u64,
    /// Length of the name, in bytes.
    name: u64,
}

impl Footer {
    fn read(file: &File, whole: u64) -> io::Result<Self> {
        let mut bytes = [0; FOOTER];
        let at = whole.checked_sub(FOOTER as u64).ok_or_else(|| corrupt("no footer"))?;
        file.read_exact_at(&mut bytes, at)?;
        let footer = Self::parse(&bytes).ok_or_else(|| corrupt("no footer"))?;
        let length = footer.info.size;
        let fits = length.checked_add(checksums_len(length) as u64 + footer.name) == Some(at);
        if fits { Ok(footer) } else { Err(corrupt("its length does not match its footer")) }
    }

    fn parse(bytes: &[u8; FOOTER]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let digest = |at: usize| bytes.get(at..at + 32)?.try_into().ok();
        let holds = bytes[..8] == MAGIC && number(FOOTER - 8)? == XxHash3_64::oneshot(&bytes[..FOOTER - 8]);
        let footer = Self {
            info: FileInfo { size: number(8)?, sha256: digest(56)? },
            nar_size: number(16)?,
            nar_hash: NarHash::from_digest(digest(24)?),
            checksums_checksum: number(88)?,
            name: number(96)?,
        };
        // The limit on the size keeps the number of blocks from overflowing.
        (holds && footer.info.size < 1 << 60 && footer.name <= MAX_NAME).then_some(footer)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.info.size.to_le_bytes());
        bytes.extend(self.nar_size.to_le_bytes());
        bytes.extend(self.nar_hash.as_bytes());
        bytes.extend(self.info.sha256);
        bytes.extend(self.checksums_checksum.to_le_bytes());
        bytes.extend(self.name.to_le_bytes());
        bytes.extend(XxHash3_64::oneshot(&bytes).to_le_bytes());
        bytes
    }
}

fn checksums_len(length: u64) -> usize {
    usize::try_from(length.div_ceil(BLOCK)).unwrap_or(usize::MAX / CHECKSUM_LEN) * CHECKSUM_LEN
}

fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes the file of an entry. Others may read the bytes that are written so far.
pub(crate) struct EntryWriter {
    file: Arc<DiskFile>,
    written: u64,
    sha256: digest::Context,
    /// Checksum and length of the block that is not full yet.
    checksum: XxHash3_64,
    in_block: u64,
    checksums: Vec<u8>,
}

impl EntryWriter {
    pub(crate) fn new(file: Arc<DiskFile>) -> Self {
        let sha256 = digest::Context::new(&digest::SHA256);
        Self { file, written: 0, sha256, checksum: XxHash3_64::new(), in_block: 0, checksums: Vec::new() }
    }

    /// Appends bytes that are served. Returns how many there are now.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<u64> {
        self.file.get()?.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        self.sha256.update(bytes);
        while !bytes.is_empty() {
            let left = usize::try_from(BLOCK - self.in_block).map_err(io::Error::other)?;
            let (taken, rest) = bytes.split_at(bytes.len().min(left));
            self.checksum.write(taken);
            self.in_block += taken.len() as u64;
            bytes = rest;
            if self.in_block == BLOCK {
                self.end_block();
            }
        }
        Ok(self.written)
    }

    /// Writes the trailer, with the base name of a store path, which may be empty. Does not sync: a file that a power failure cuts is found to be corrupt like any other.
    pub(crate) fn finish(mut self, nar_hash: NarHash, nar_size: u64, name: &str) -> io::Result<FileInfo> {
        if self.in_block > 0 {
            self.end_block();
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        let info = FileInfo { sha256, size: self.written };
        let name = name.as_bytes();
        self.checksums.extend(name);
        let footer = Footer {
            info,
            nar_size,
            nar_hash,
            checksums_checksum: XxHash3_64::oneshot(&self.checksums),
            name: name.len() as u64,
        };
        self.checksums.extend(footer.bytes());
        self.file.get()?.write_all_at(&self.checksums, self.written)?;
        Ok(info)
    }

    fn end_block(&mut self) {
        let checksum = mem::replace(&mut self.checksum, XxHash3_64::new());
        self.checksums.extend(checksum.finish().to_le_bytes());
        self.in_block = 0;
    }
}
