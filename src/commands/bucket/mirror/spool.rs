//! Files of NARs whose hash the source does not say: kept until they are published.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use bytes::Bytes;

use super::closure::Mirrored;
use super::source::Source;
use crate::bucket::BucketError;
use crate::commands::bucket::failure::BucketFailure;
use crate::commands::bucket::nar_proof::NarProof;
use crate::nar_cache::FileInfo;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Attempts to read a file.
const ATTEMPTS: u32 = 3;

/// Directory of files, which is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    next: u64,
}

/// A file that is being read.
pub(super) struct SpooledFile(File);

impl Spool {
    /// Creates a spool without files, which has no directory yet.
    pub(super) fn new() -> Self {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        Self { directory: std::env::temp_dir().join(format!("harmonia-mirror-{random:016x}")), next: 0 }
    }

    /// Reads the NAR of a path into a file, and returns its number, hash and size, or why it cannot be used.
    pub(super) async fn read(
        &mut self,
        source: &Source,
        path: &Mirrored,
    ) -> Result<Result<(u64, FileInfo), String>, BucketFailure> {
        self.next += 1;
        let mut attempt = 1;
        loop {
            match self.read_once(source, path).await? {
                Err(error) if error.kind.may_pass() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Ok(Err(error.to_string())),
                Ok(read) => return Ok(read.map(|info| (self.next, info))),
            }
        }
    }

    async fn read_once(
        &self,
        source: &Source,
        path: &Mirrored,
    ) -> Result<Result<Result<FileInfo, String>, BucketError>, BucketFailure> {
        let mut body = match source.open_nar(&path.url).await {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(Ok(Err("the other cache does not have its NAR".to_owned()))),
            Err(error) => return Ok(Err(error)),
        };
        let mut file = self.create().map_err(BucketFailure::Spool)?;
        let mut proof = NarProof::start(path.narinfo.compression, path.expected());
        loop {
            match body.next().await {
                Ok(Some(bytes)) => {
                    file.write_all(&bytes).map_err(BucketFailure::Spool)?;
                    if !proof.feed(bytes).await {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(proof.end().await))
    }

    /// Opens a file at its start.
    pub(super) fn open(&self, number: u64) -> io::Result<SpooledFile> {
        Ok(SpooledFile(File::open(self.directory.join(number.to_string()))?))
    }

    fn create(&self) -> io::Result<File> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        File::create(self.directory.join(self.next.to_string()))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // There is none unless a file was read.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

impl SpooledFile {
    /// Returns the next bytes; `None` after the last ones.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        // There is nobody else to serve.
        let length = self.0.read(&mut piece)?;
        piece.truncate(length);
        Ok((length > 0).then(|| piece.into()))
    }
}
