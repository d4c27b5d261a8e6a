//! Where in the store the debug info of a build is: `lib/debug/.build-id/<2>/<rest>.debug` in some path, as nixpkgs'
//! hook for separate debug info leaves it, and as Nix indexes it when it copies to a cache (`src/libstore/
//! binary-cache-store.cc`, `index-debug-info`).
//!
//! The daemon knows nothing of it, so there is an index of valid paths by what is in their files.

pub(super) mod build_id;
pub(super) mod change_time;
pub(super) mod debug_files;
pub(super) mod debug_info;
pub(super) mod entries;
pub(super) mod scan;
pub(super) mod scans;
pub(super) mod search;
