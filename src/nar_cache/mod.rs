//! Cache of compressed NARs: each NAR is compressed once, served many times, and can be resumed from any byte.
//!
//! Owns how NARs are compressed (`encode`), the directory that stores them (`disk`), the fills that write them (`fill`), and
//! files that were compressed elsewhere (`fetch`). A fill reads the NAR once, verifies it and writes it as zstd frames; clients that request it meanwhile read
//! along, later ones read the file. The bytes of a NAR in one encoding never change, whether they come from disk or from a
//! fill, and the last frame exists only for a NAR that was verified. Leaves HTTP to `http`, including what is served
//! without a cache, and the validity of paths to `store`.

mod admin;
mod cache;
mod disk;
mod encode;
mod error;
mod fetch;
mod fill;
mod precompress;
mod serve;
#[cfg(test)]
mod tests;
mod warm;

pub use admin::{
    CachedNar, FileCheck, Removed, Selection, clear, disabled_reason, list, preflight, remove, stats, verify,
};
pub use cache::NarCache;
pub use disk::{CacheDirectory, DirectoryError, FileInfo, PlainNar};
pub(crate) use disk::{DiskThreads, FreeSpace};
pub use encode::{
    Encoding, EncodingTag, FRAME_SIZE, frame_count, parameters, parse_seek_table, seek_table_len, version,
};
pub use error::FillError;
pub(crate) use fetch::{FileSource, FileToFetch, VerifiedStream};
pub use fill::ActiveFill;
pub use serve::{CompressedBody, CompressedNar, HEAD_DELAY};
pub use warm::{WarmError, WarmOutcome, resolve, select};
