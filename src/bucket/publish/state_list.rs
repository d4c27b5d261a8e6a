//! A list of texts in the state directory, written as a whole. Without a directory it is not kept.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::{create_state_directory, read_state_file, replace_state_file};

/// Upper bound of a file's size, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// File of a list, one text a line.
#[derive(Debug, Clone)]
pub(super) struct StateList {
    directory: Option<PathBuf>,
    name: &'static str,
}

impl StateList {
    /// Creates the list of this name in a directory, without reading it.
    pub(super) fn new(directory: Option<&Path>, name: &'static str) -> Self {
        Self { directory: directory.map(Path::to_owned), name }
    }

    /// Returns whether the list is kept.
    pub(super) const fn is_kept(&self) -> bool {
        self.directory.is_some()
    }

    /// Returns the texts; none if there is no file. One that cannot be read is logged and counts as none. Blocks on the disk.
    pub(super) fn read(&self) -> Vec<String> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let read = read_state_file(&directory.join(self.name), MAX_FILE);
        let log = |cause: &io::Error| tracing::warn!("cannot read {}/{}: {cause}", directory.display(), self.name);
        let text = read.inspect_err(log).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Writes the texts on another thread, which logs what fails: they are found out again.
    pub(super) async fn write(&self, texts: Vec<String>) {
        let Some(directory) = self.directory.clone() else { return };
        let name = self.name;
        let write = move || {
            create_state_directory(&directory, 0o700)?;
            let text: String = texts.into_iter().flat_map(|text| [text, "\n".to_owned()]).collect();
            replace_state_file(&directory, name, text.as_bytes())
        };
        if let Err(cause) = tokio::task::spawn_blocking(write).await.map_err(io::Error::other).and_then(|result| result)
        {
            tracing::warn!("cannot write the list of {name}: {cause}");
        }
    }
}
