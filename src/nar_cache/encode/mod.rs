//! Compression of NARs: zstd parameters, the frames that they make, and the threads that run the encoders.

pub(super) mod chunks;
pub(super) mod encoding;
pub(super) mod frame_encoder;
pub(super) mod seek_table;
pub(super) mod threads;

pub use encoding::{Encoding, EncodingTag, FRAME_SIZE, parameters, version};
pub use seek_table::{frame_count, parse_seek_table, seek_table_len};
