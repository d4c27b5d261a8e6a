//! Where in the store the debug info of a build is: `lib/debug/.build-id/<2>/<rest>.debug` in some path, as nixpkgs'
//! hook for separate debug info leaves it, and as Nix indexes it when it copies to a cache (`src/libstore/
//! binary-cache-store.cc`, `index-debug-info`).
//!
//! The daemon knows nothing of it, so it is an index of valid paths ([`super::path_index`]), by what is in their files.

mod build_id;
mod files;
#[cfg(test)]
mod tests;

use harmonia_protocol::StorePath;

pub use build_id::{BuildId, InvalidBuildId};

use super::path_index::{Key, Keys};
use super::{Store, StoreError, ValidPath};

impl Key for BuildId {
    const WHAT: &'static str = "debug info";

    /// A derivation is a file.
    fn may_be_of(path: &StorePath) -> bool {
        !path.is_derivation()
    }

    async fn of_paths(store: &Store, paths: Vec<StorePath>) -> Result<Keys<Self>, StoreError> {
        store.on_disk(move |directory| files::build_ids(directory, &paths)).await
    }

    /// Its file is there.
    async fn is_of(&self, store: &Store, valid: &ValidPath) -> Result<bool, StoreError> {
        let (path, id) = (valid.path.clone(), self.clone());
        store.on_disk(move |directory| files::have(directory, &path, &id)).await
    }
}
