//! zstd as a content coding of texts (RFC 8878, RFC 9659).
//!
//! Owns the settings and their names in entity tags; whether a text is encoded is `coding`'s question. Compressed NARs are
//! those of [`crate::nar_cache`], also where one of them is sent as a content coding.

use std::io::{self, BufReader, Read};

use crate::config::Zstd;
use crate::nar_cache::{parameters, version};

/// RFC 9659: a sender of `Content-Encoding: zstd` uses a window of at most 8 MiB.
pub(super) const MAX_WINDOW_LOG: u32 = 23;
/// The highest level whose own window is not larger than that.
const MAX_LEVEL: i32 = 19;
/// How texts are encoded for clients that accept it.
#[derive(Debug)]
pub(super) struct Compression {
    settings: Zstd,
    tag: String,
}

impl Compression {
    /// As NARs are compressed, within what a content coding may be.
    pub(super) fn new(nars: Zstd) -> Self {
        let settings = Zstd {
            level: nars.level.min(MAX_LEVEL),
            long_distance_matching: false,
            window_log: nars.window_log.map(|log| log.min(MAX_WINDOW_LOG)),
        };
        let window = settings.window_log.unwrap_or_default();
        Self { settings, tag: format!("zstd{}-{}-{window}", version(), settings.level) }
    }

    /// What distinguishes the encoded bytes in entity tags: the encoder's release and settings decide them.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Encodes a text as one frame, on the calling thread, which for more than a few hundred kilobytes must be one that
    /// may block.
    pub(super) fn encode(&self, text: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::bulk::Compressor::new(self.settings.level)?;
        for parameter in parameters(&self.settings) {
            encoder.set_parameter(parameter)?;
        }
        encoder.compress(text)
    }
}

/// The encoding of texts that are rendered while they are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEncoding(Zstd);

impl StreamEncoding {
    /// Whatever the settings of others: an encoder takes three megabytes until its reader is done.
    pub(super) const FIXED: Self = Self(Zstd { level: 3, long_distance_matching: false, window_log: Some(20) });

    /// What distinguishes the encoded bytes in entity tags.
    pub(super) fn tag(self) -> String {
        format!("zstd{}-{}-{}", version(), self.0.level, self.0.window_log.unwrap_or_default())
    }

    /// Encodes what is written to it, into memory.
    pub(super) fn writer(self) -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), self.0.level)?;
        parameters(&self.0).try_for_each(|parameter| encoder.set_parameter(parameter))?;
        Ok(encoder)
    }

    /// Encodes what `text` has.
    pub(super) fn reader<R: Read>(self, text: R) -> io::Result<zstd::stream::read::Encoder<'static, BufReader<R>>> {
        let mut encoder = zstd::stream::read::Encoder::new(text, self.0.level)?;
        parameters(&self.0).try_for_each(|parameter| encoder.set_parameter(parameter))?;
        Ok(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_frame_that_states_its_length_and_takes_no_larger_window_than_it_may() {
        let text: Vec<u8> = (0..2_500_000_u32).flat_map(|n| (n.wrapping_mul(n) >> 3).to_le_bytes()).collect();
        for settings in [Zstd::default(), Zstd { level: 22, window_log: Some(27), ..Zstd::default() }] {
            // The largest window is worth its time only once.
            let text = if settings.level == 22 { &text[..300_000] } else { &text };
            let frame = Compression::new(settings).encode(text).unwrap();
            assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).unwrap(), Some(text.len() as u64));
            let mut decoder = zstd::Decoder::new(&frame[..]).unwrap();
            decoder.window_log_max(MAX_WINDOW_LOG).unwrap();
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            assert!(plain == text);
        }
    }
}
