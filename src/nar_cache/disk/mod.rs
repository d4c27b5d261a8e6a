//! Compressed NARs on disk: the directory, the format of its files, which of them are evicted, and access that never blocks the
//! runtime.

pub(super) mod buffer_pool;
pub(super) mod decode;
pub(super) mod directory;
pub(super) mod disk_cache;
pub(super) mod entry;
pub(super) mod file;
pub(super) mod free_space;
pub(super) mod key;
pub(super) mod layout;
pub(super) mod lru;
pub(super) mod open_files;
pub(super) mod reservation;
pub(super) mod threads;

pub use decode::PlainNar;
pub use directory::{CacheDirectory, DirectoryError};
pub use entry::FileInfo;
pub(crate) use free_space::FreeSpace;
pub(crate) use threads::DiskThreads;
