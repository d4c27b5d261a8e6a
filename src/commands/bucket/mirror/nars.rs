//! Files of NARs on their way from the source, each proven before its last byte is handed on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::hash::Algorithm;

use super::closure::{Mirrored, renamed};
use super::source::{Source, SourceBody};
use super::spool::{Spool, SpooledFile};
use crate::bucket::{BucketNarInfo, Chunks, NarFile, NarSource};
use crate::commands::bucket::failure::BucketFailure;
use crate::commands::bucket::nar_proof::NarProof;

/// Files of some paths.
pub(super) struct MirrorNars {
    source: Arc<Source>,
    files: HashMap<NarFile, Origin>,
    spool: Spool,
}

/// Origin of a file.
enum Origin {
    Source(Box<Mirrored>),
    Spool(u64),
}

/// A file that is being read.
pub(super) enum MirrorChunks {
    Source { body: SourceBody, proof: Option<NarProof> },
    Spool(SpooledFile),
}

impl MirrorNars {
    /// Creates a source without files.
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, files: HashMap::new(), spool: Spool::new() }
    }

    /// Adds the NAR of a path, and returns the narinfo for the target, or why there is none. A file whose hash the narinfo does
    /// not say is read first.
    pub(super) async fn add(&mut self, path: Mirrored) -> Result<Result<BucketNarInfo, String>, BucketFailure> {
        let name = path.narinfo.path.clone();
        let said = match (&path.narinfo.file_hash, path.narinfo.file_size) {
            (Some(hash), Some(size)) if hash.algorithm() == Algorithm::Sha256 => {
                <[u8; 32]>::try_from(hash.digest()).ok().map(|digest| (digest, size))
            }
            _ => None,
        };
        let compression = path.narinfo.compression;
        let of = |digest| NarFile::of(digest, compression);
        let fault = |fault: String| Ok(Err(format!("{name}: {fault}")));
        let Some((digest, size)) = said else {
            let spooled = self.spool.read(&self.source, &path).await?;
            let (number, info) = match spooled {
                Ok(spooled) => spooled,
                Err(cause) => return fault(cause),
            };
            let Some(file) = of(info.sha256) else { return fault(unnamed(&path)) };
            self.files.insert(file, Origin::Spool(number));
            return renamed(&path, file, info.size).map_or_else(fault, |narinfo| Ok(Ok(narinfo)));
        };
        let Some(file) = of(digest) else { return fault(unnamed(&path)) };
        let narinfo = renamed(&path, file, size);
        self.files.insert(file, Origin::Source(Box::new(path)));
        narinfo.map_or_else(fault, |narinfo| Ok(Ok(narinfo)))
    }
}

fn unnamed(path: &Mirrored) -> String {
    format!("files of the compression {} have no name in a bucket", path.narinfo.compression.name())
}

impl NarSource for MirrorNars {
    type Chunks = MirrorChunks;

    async fn open(&self, file: NarFile) -> io::Result<MirrorChunks> {
        let path = match self.files.get(&file).ok_or(io::ErrorKind::NotFound)? {
            Origin::Source(path) => path,
            Origin::Spool(number) => return Ok(MirrorChunks::Spool(self.spool.open(*number)?)),
        };
        let body = self.source.open_nar(&path.url).await.map_err(io::Error::other)?;
        let body = body.ok_or_else(|| io::Error::other("the other cache does not have it"))?;
        let proof = NarProof::start(path.narinfo.compression, path.expected());
        Ok(MirrorChunks::Source { body, proof: Some(proof) })
    }
}

impl Chunks for MirrorChunks {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (body, proof) = match self {
            Self::Source { body, proof } => (body, proof),
            Self::Spool(file) => return file.next(),
        };
        let next = body.next().await.map_err(io::Error::other)?;
        let Some(mut running) = proof.take() else { return Ok(next) };
        if let Some(bytes) = next {
            if running.feed(bytes.clone()).await {
                *proof = Some(running);
                return Ok(Some(bytes));
            }
        }
        // After the last byte, or at a fault.
        running.end().await.map(|_| None).map_err(io::Error::other)
    }
}
