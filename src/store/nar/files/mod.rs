//! NARs read from the store's files, where they are visible.
//!
//! `index` reads the metadata of a store path, `reader` reads a NAR by its index, `stream` waits for the disk on other
//! threads, `open` keeps every access inside the path, `same_store` finds out whether the files are those of
//! nix-daemon's store, and `store_files` bounds it all. `VerifyingNar` compares the bytes with the path info, as those
//! of any source.
//!
//! nix-daemon dumps what cannot be read here, which is logged once. File types that a NAR cannot contain, and a tree
//! whose NAR would have another size than its path info says, are errors at once.

pub(in crate::store) mod buffer_pool;
pub(in crate::store) mod index;
pub(in crate::store) mod index_cache;
pub(in crate::store) mod open;
pub(in crate::store) mod reader;
pub(in crate::store) mod same_store;
pub(in crate::store) mod store_files;
pub(in crate::store) mod stream;
