//! zstd as a content coding of texts (RFC 8878, RFC 9659).
//!
//! Owns the parameters and their names in entity tags. Leaves the negotiation to `accept_encoding`, and compressed NARs to
//! [`crate::nar_cache`], even where one is sent with a `Content-Encoding`.

use std::io::{self, BufReader, Read};

use crate::config::ZstdConfig;
use crate::nar_cache::{parameters, version};

/// Upper bound of the window under `Content-Encoding: zstd`, as a power of two: 8 MiB (RFC 9659).
pub(crate) const MAX_WINDOW_LOG: u32 = 23;
/// Highest level whose default window is within that bound.
const MAX_LEVEL: i32 = 19;

/// Compresses texts in memory.
#[derive(Debug)]
pub(crate) struct TextCompressor {
    settings: ZstdConfig,
    tag: String,
}

impl TextCompressor {
    /// Creates a compressor with the parameters for NARs, within the limits of a content coding.
    pub(crate) fn new(zstd: ZstdConfig) -> Self {
        let settings = ZstdConfig {
            level: zstd.level.min(MAX_LEVEL),
            long_distance_matching: false,
            window_log: zstd.window_log.map(|log| log.min(MAX_WINDOW_LOG)),
        };
        let window = settings.window_log.unwrap_or_default();
        Self { settings, tag: format!("zstd{}-{}-{window}", version(), settings.level) }
    }

    /// Returns the part of an entity tag that identifies the encoder's release and parameters, which determine the bytes.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Compresses a text into one frame, on the calling thread: one of more than a few hundred kilobytes blocks it.
    pub(crate) fn compress(&self, text: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::bulk::Compressor::new(self.settings.level)?;
        for parameter in parameters(&self.settings) {
            encoder.set_parameter(parameter)?;
        }
        encoder.compress(text)
    }
}

/// Compression of texts that are rendered while they are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamCompression(ZstdConfig);

impl StreamCompression {
    /// The only parameters, independent of the configuration: an encoder takes three megabytes until its client is done.
    pub(crate) const FIXED: Self = Self(ZstdConfig { level: 3, long_distance_matching: false, window_log: Some(20) });

    /// Returns the part of an entity tag that identifies the encoder's release and parameters.
    pub(crate) fn tag(self) -> String {
        format!("zstd{}-{}-{}", version(), self.0.level, self.0.window_log.unwrap_or_default())
    }

    /// Returns an encoder that compresses what is written to it into memory.
    pub(crate) fn writer(self) -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), self.0.level)?;
        parameters(&self.0).try_for_each(|parameter| encoder.set_parameter(parameter))?;
        Ok(encoder)
    }

    /// Returns a reader of the compressed form of `text`.
    pub(crate) fn reader<R: Read>(self, text: R) -> io::Result<zstd::stream::read::Encoder<'static, BufReader<R>>> {
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
        for settings in [ZstdConfig::default(), ZstdConfig { level: 22, window_log: Some(27), ..ZstdConfig::default() }]
        {
            let text = if settings.level == 22 { &text[..300_000] } else { &text };
            let frame = TextCompressor::new(settings).compress(text).unwrap();
            assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).unwrap(), Some(text.len() as u64));
            let mut decoder = zstd::Decoder::new(&frame[..]).unwrap();
            decoder.window_log_max(MAX_WINDOW_LOG).unwrap();
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            assert!(plain == text);
        }
    }
}
