//! Where in the store the debug info of a build is: `lib/debug/.build-id/<2>/<rest>.debug` in some path, as nixpkgs'
//! hook for separate debug info leaves it, and as Nix indexes it when it copies to a cache (`src/libstore/
//! binary-cache-store.cc`, `index-debug-info`).
//!
//! The daemon knows nothing of it, so there is an index of valid paths by what is in their files.

mod build_id;
mod files;
mod index;
#[cfg(test)]
mod tests;

use harmonia_protocol::StorePath;

pub use build_id::{BuildId, InvalidBuildId};
pub(super) use index::DebugInfoIndex;

use super::{Store, StoreError, ValidPath};

/// Build ids of each of some paths, or why they cannot be known; `None` for a path that is not there any more.
type Found = Vec<Result<Option<Vec<BuildId>>, StoreError>>;

/// Whether such a path can have any: a derivation is a file.
fn may_have_some(path: &StorePath) -> bool {
    !path.is_derivation()
}

/// The build ids of these paths, in their order.
async fn of_paths(store: &Store, paths: Vec<StorePath>) -> Result<Found, StoreError> {
    store.on_disk(move |directory| files::build_ids(directory, &paths)).await
}

/// Whether a valid path has the debug info of this build.
async fn has(store: &Store, valid: &ValidPath, id: &BuildId) -> Result<bool, StoreError> {
    let (path, id) = (valid.path.clone(), id.clone());
    store.on_disk(move |directory| files::have(directory, &path, &id)).await
}
