//! Decoders of uploaded NARs, by the names that narinfos have for compressions.
//!
//! Each decodes a file to its very end: files of several members or frames in a row, as parallel compressors write them, are
//! one NAR, and anything else after the end is an error. Memory is bounded before it is allocated:
//!
//! | Compression | largest window | which is that of |
//! |---|---|---|
//! | zstd | 128 MiB | `zstd --ultra -22` and `--long`; level 19 has 8 MiB |
//! | xz, lzip | 64 MiB | `xz -9`; Nix writes 8 MiB |
//! | br | 16 MiB | all of RFC 7932; not "large window" |
//! | bzip2 | 4 MiB | all |
//! | gzip | 32 KiB | all |

mod brotli;
mod lzip;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use harmonia_protocol::narinfo::Compression;
use lzma_rust2::XzReader;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::push::decode::brotli::BrotliReader;
use crate::push::decode::lzip::LzipReader;

/// Bytes that are read from the file at once.
const READ: usize = 64 << 10;
/// Largest window of zstd, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory of an LZMA decoder, in KiB: a dictionary of 64 MiB and what the decoder needs beside it.
const LZMA_MEMORY: u32 = (64 << 10) + 1024;

/// Creates a decoder of a file.
pub fn decoder(compression: Compression, file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let file = BufReader::with_capacity(READ, FileReader(file));
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Zstd => {
            let mut decoder = ZstdDecoder::with_buffer(file)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(XzReader::new_mem_limit(file, true, LZMA_MEMORY)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(file)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::Brotli => Box::new(BrotliReader::new(file)),
        Compression::Lzip => Box::new(LzipReader::new(file, LZMA_MEMORY)),
        other => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} is not supported", other.name()))),
    })
}

/// Returns whether an error of a decoder is one of the file that it reads.
pub(crate) fn is_of_file(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<FileError>)
}

/// Reader whose errors can be told from those of the decoder above it.
struct FileReader<R>(R);

/// Error of reading a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct FileError(io::Error);

impl<R: Read> Read for FileReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, FileError(error)),
        })
    }
}
