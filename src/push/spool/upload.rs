//! A file while it is uploaded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::disk::{DISK_LIMIT, Spool};
use super::error::SpoolError;
use super::owner::{FileHash, Key};
use super::reservation::Reservation;

/// A file while it is uploaded. Dropping it removes the file.
///
/// Each step runs on a thread that may wait for the disk. One that takes too long fails, and the file is removed when the disk
/// answers.
#[derive(Debug)]
pub(crate) struct Upload {
    spool: Arc<Spool>,
    file: Box<TempFile>,
}

#[derive(Debug)]
struct TempFile {
    /// `None` after it got its name.
    path: Option<PathBuf>,
    file: File,
    digest: Digest,
    reservation: Option<Reservation>,
}

struct Digest(Context);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

impl Upload {
    /// Creates a file for the reserved space.
    pub(crate) async fn create(spool: &Arc<Spool>, reservation: Reservation) -> Result<Self, SpoolError> {
        spool.check_free_space().await?;
        let path = spool.temp_file();
        let open = move || -> io::Result<TempFile> {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            Ok(TempFile {
                path: Some(path),
                file,
                digest: Digest(Context::new(&SHA256)),
                reservation: Some(reservation),
            })
        };
        let file = spool.threads().run(DISK_LIMIT, open).await??;
        Ok(Self { spool: Arc::clone(spool), file: Box::new(file) })
    }

    /// Appends bytes. Returns the buffer, empty.
    pub(crate) async fn write(self, mut bytes: Vec<u8>) -> Result<(Self, Vec<u8>), SpoolError> {
        let Self { spool, mut file } = self;
        if let Some(reservation) = &mut file.reservation {
            reservation.grow(bytes.len() as u64)?;
        }
        let write = move || -> Result<_, SpoolError> {
            file.digest.0.update(&bytes);
            file.file.write_all(&bytes)?;
            bytes.clear();
            Ok((file, bytes))
        };
        let (file, bytes) = spool.threads().run(DISK_LIMIT, write).await??;
        Ok((Self { spool, file }, bytes))
    }

    /// Gives the file its name, if it has the hash `expected`.
    pub(crate) async fn finish(self, expected: FileHash) -> Result<(), SpoolError> {
        let Self { spool, mut file } = self;
        let names = Arc::clone(&spool);
        let finish = move || -> Result<(), SpoolError> {
            let TempFile { digest, reservation, path, .. } = &mut *file;
            let digest = digest.0.clone().finish();
            let actual = digest.as_ref().try_into().map(FileHash::from_digest).map_err(io::Error::other)?;
            if actual != expected {
                return Err(SpoolError::WrongHash(actual));
            }
            if let (Some(reservation), Some(from)) = (reservation.take(), path.take()) {
                let key = Key { owner: reservation.owner(), hash: expected };
                if let Err(cause) = names.publish(&from, key, reservation) {
                    *path = Some(from);
                    return Err(cause.into());
                }
            }
            Ok(())
        };
        spool.threads().run(DISK_LIMIT, finish).await?
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}
