//! Uploads in parts that a restart goes on with: a file for each in the state directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::bucket::engine::Parts;
use crate::bucket::file_hash::NarFile;
use crate::store::{create_state_directory, read_state_file, replace_state_file};

/// Upper bound of a file's size, in bytes: nine thousand entity tags.
const MAX_FILE: u64 = 1 << 20;

/// Directory of uploads that have begun.
#[derive(Debug, Clone)]
pub(crate) struct KeptUploads(PathBuf);

impl KeptUploads {
    /// Opens the directory, and creates it. Blocks on the disk.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        create_state_directory(directory, 0o700)?;
        Ok(Self(directory.to_owned()))
    }

    /// Returns the upload of this file, if one has begun. What cannot be read begins anew.
    pub(crate) async fn find(&self, file: NarFile) -> Option<Parts> {
        let path = self.path(file);
        let read = move || serde_json::from_slice(&read_state_file(&path, MAX_FILE).ok()??).ok();
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Keeps an upload. A crash leaves what was kept before, or this.
    pub(crate) async fn keep(&self, file: NarFile, parts: &Parts) -> io::Result<()> {
        let (directory, name, json) = (self.0.clone(), name(file), serde_json::to_vec(parts)?);
        let write = move || replace_state_file(&directory, &name, &json);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    /// Forgets the upload of a file.
    pub(crate) async fn forget(&self, file: NarFile) {
        let path = self.path(file);
        // One that remains is refused by the server, and then begins anew.
        drop(tokio::task::spawn_blocking(move || fs::remove_file(path)).await);
    }

    fn path(&self, file: NarFile) -> PathBuf {
        self.0.join(name(file))
    }
}

fn name(file: NarFile) -> String {
    format!("{}.json", file.hash())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::publish::plan::tests::file;

    #[tokio::test]
    async fn what_is_kept_is_found_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptUploads::open(&directory.path().join("uploads")).unwrap();
        let parts: Parts = serde_json::from_str("{\"id\":\"u\",\"tags\":[\"a\"]}").unwrap();
        assert_eq!(kept.find(file(1)).await, None);
        kept.keep(file(1), &parts).await.unwrap();
        assert_eq!((kept.find(file(1)).await, kept.find(file(2)).await), (Some(parts), None));
        kept.forget(file(1)).await;
        assert_eq!(kept.find(file(1)).await, None);
        fs::write(directory.path().join(format!("uploads/{}.json", file(1).hash())), "{").unwrap();
        assert_eq!(kept.find(file(1)).await, None);
    }
}
