//! Names of the narinfos and NARs of a bucket.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use harmonia_protocol::HashPart;

use crate::bucket::{BucketError, BucketStore, NarFile, ObjectName};

/// Names of a listing, about a hundred bytes of memory for each path.
#[derive(Debug, Default)]
pub(super) struct Listed {
    paths: HashSet<HashPart>,
    files: HashMap<NarFile, u64>,
}

impl Listed {
    /// Lists the bucket: a request for each thousand objects.
    pub(super) async fn read(store: &BucketStore) -> Result<Self, BucketError> {
        let mut listed = Self::default();
        store
            .walk("", |name, info| match name {
                ObjectName::NarInfo(path) => drop(listed.paths.insert(path)),
                ObjectName::Nar(file) => drop(listed.files.insert(file, info.size)),
                _ => {}
            })
            .await?;
        Ok(listed)
    }

    /// Returns the paths with narinfos: all in their order, or so many at random.
    pub(super) fn paths(&self, sample: Option<usize>) -> Vec<HashPart> {
        let mut paths: Vec<_> = self.paths.iter().copied().collect();
        if let Some(sample) = sample {
            let random = RandomState::new();
            paths.sort_unstable_by_key(|path| random.hash_one(path));
            paths.truncate(sample);
        }
        paths.sort_unstable();
        paths
    }

    /// Returns whether there is a narinfo of a path.
    pub(super) fn has(&self, path: &HashPart) -> bool {
        self.paths.contains(path)
    }

    /// Returns the size of a file, in bytes.
    pub(super) fn file_size(&self, file: &NarFile) -> Option<u64> {
        self.files.get(file).copied()
    }

    /// Returns all files with their sizes in bytes.
    pub(super) fn files(&self) -> impl Iterator<Item = (&NarFile, &u64)> {
        self.files.iter()
    }
}
