//! Uploads in parts that a restart goes on with: a file for each in the state directory.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::bucket::engine::Parts;
use crate::bucket::file_hash::NarFile;

/// Upper bound of a file's size, in bytes: nine thousand entity tags.
const MAX_FILE: u64 = 1 << 20;

/// Directory of uploads that have begun.
#[derive(Debug, Clone)]
pub(crate) struct KeptUploads(PathBuf);

impl KeptUploads {
    /// Opens the directory, and creates it. Blocks on the disk.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self(directory.to_owned()))
    }

    /// Returns the upload of this file, if one has begun. What cannot be read begins anew.
    pub(crate) async fn find(&self, file: NarFile) -> Option<Parts> {
        let path = self.path(file);
        let read = move || {
            let is_bounded = path.metadata().is_ok_and(|metadata| metadata.len() <= MAX_FILE);
            if is_bounded { serde_json::from_slice(&fs::read(path).ok()?).ok() } else { None }
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Keeps an upload. A crash leaves what was kept before, or this.
    pub(crate) async fn keep(&self, file: NarFile, parts: &Parts) -> io::Result<()> {
        let (path, new) = (self.path(file), self.path(file).with_extension("new"));
        let json = serde_json::to_vec(parts)?;
        let write = move || {
            let mut written = fs::File::create(&new)?;
            written.write_all(&json)?;
            written.sync_data()?;
            fs::rename(new, path)
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    /// Forgets the upload of a file.
    pub(crate) async fn forget(&self, file: NarFile) {
        let path = self.path(file);
        // One that remains is refused by the server, and then begins anew.
        drop(tokio::task::spawn_blocking(move || fs::remove_file(path)).await);
    }

    fn path(&self, file: NarFile) -> PathBuf {
        self.0.join(format!("{}.json", file.hash()))
    }
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
