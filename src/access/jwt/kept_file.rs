//! Fetched key sets on disk, so that tokens are verified after a restart while the issuer is unreachable.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::key_set::MAX_KEY_SET;

/// The file of one URL: `STATE_DIR/jwks/HASH.json`.
#[derive(Debug)]
pub(super) struct KeptFile(PathBuf);

impl KeptFile {
    /// Returns the file for a URL. Another URL has another file, so keys never become those of another issuer.
    pub(super) fn new(state_dir: &Path, url: &str) -> Self {
        let hash = HEXLOWER.encode(&digest(&SHA256, url.as_bytes()).as_ref()[..16]);
        Self(state_dir.join("jwks").join(format!("{hash}.json")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the document, or `None` if there is none.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match read_key_set(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Replaces the document at once, or not at all.
    pub(super) fn write(&self, document: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.0.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(document)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }
}

/// Reads a regular file, and one byte more than a key set may have at most.
pub(super) fn read_key_set(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut document = Vec::new();
    File::open(path)?.take(MAX_KEY_SET as u64 + 1).read_to_end(&mut document)?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_each_url_has_its_own() {
        let state = tempfile::tempdir().unwrap();
        let file = KeptFile::new(state.path(), "https://a/");
        assert_eq!(file.read().unwrap(), None);
        file.write(b"1").unwrap();
        file.write(b"22").unwrap();
        assert_eq!(KeptFile::new(state.path(), "https://a/").read().unwrap().unwrap(), b"22");
        assert_eq!(KeptFile::new(state.path(), "https://b/").read().unwrap(), None);
        assert_eq!(fs::read_dir(state.path().join("jwks")).unwrap().count(), 1);
    }

    #[test]
    fn only_a_regular_file_is_read_and_no_more_than_a_key_set_of_it() {
        assert!(read_key_set(Path::new("/dev/zero")).is_err());
        assert!(read_key_set(Path::new("/")).is_err());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read_key_set(&path).unwrap().len(), MAX_KEY_SET + 1);
    }
}
