//! NARs read from the store's own files, where they are visible here, under the daemon's path info.
//!
//! Owns which paths can be read so, the indexes that are kept in memory, and the bounds on all of it. `index` looks
//! through a store path, `reader` reads a NAR by the index, `stream` waits for the disk off the threads that serve, `open` keeps
//! every way inside the path, `same_store` finds out whose files they are. Leaves to `nar` the proof that the bytes are what the daemon says of them: this is only
//! another source.
//!
//! What cannot be read here is the daemon's to dump, which is said once in the log. A thing that no NAR can hold, and a
//! tree whose NAR would have another size than the daemon says, are errors at once.

pub(in crate::store) mod buffer_pool;
pub(in crate::store) mod index;
pub(in crate::store) mod index_cache;
pub(in crate::store) mod open;
pub(in crate::store) mod reader;
pub(in crate::store) mod same_store;
pub(in crate::store) mod store_files;
pub(in crate::store) mod stream;
