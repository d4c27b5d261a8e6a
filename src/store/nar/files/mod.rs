//! NARs read from the store's files instead of nix-daemon, where they are visible to this process.
//!
//! `store_files` opens them within limits of memory and descriptors, `index` walks a store path, `index_cache` caches
//! the result, `reader` reads a NAR by it, `stream` does so without blocking the runtime's threads, `open` keeps opens
//! inside the store directory, and `same_store` finds out whether the files are those of nix-daemon's store. The bytes
//! are unverified: [`VerifyingNar`](crate::store::nar::verifying::VerifyingNar) does that.
//!
//! Unreadable paths are left to nix-daemon, with one warning. A file type that a NAR cannot hold, and a tree whose NAR
//! has another size than the path info says, are errors.

pub(in crate::store) mod buffer_pool;
pub(in crate::store) mod index;
pub(in crate::store) mod index_cache;
pub(in crate::store) mod open;
pub(in crate::store) mod reader;
pub(in crate::store) mod same_store;
pub(in crate::store) mod store_files;
pub(in crate::store) mod stream;
