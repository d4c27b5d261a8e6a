//! The zstd parameters of NARs, and the tag that identifies them in URLs, entity tags and on disk.

use std::fmt;
use std::str::FromStr;

use zstd::stream::raw::CParameter;

use crate::config::ZstdConfig;

/// Bytes of a NAR in one frame. Repetitions are found only within a frame, and a range decodes at most one frame too much. On a
/// store of 1.9 GB, frames of 32 MiB took 34 MB more than frames of 64 MiB.
pub const FRAME_SIZE: u64 = 128 << 20;
/// Limit on the length of a tag.
const MAX_TAG: usize = 48;

/// The tag of an encoding, which is always a safe component of paths and URLs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EncodingTag(Box<str>);

impl EncodingTag {
    /// Creates a tag that is no encoding of this program.
    pub(crate) fn fixed(text: &'static str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EncodingTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of parsing an [`EncodingTag`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed encoding tag")]
pub struct InvalidTag;

impl FromStr for EncodingTag {
    type Err = InvalidTag;

    fn from_str(text: &str) -> Result<Self, InvalidTag> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
        let named = text.strip_prefix("zstd").is_some_and(|rest| rest.bytes().all(plain));
        if named && text.len() <= MAX_TAG { Ok(Self(text.into())) } else { Err(InvalidTag) }
    }
}

/// The parameters of compression. Together with a NAR they determine every byte of its compressed form.
#[derive(Debug, Clone)]
pub struct Encoding {
    settings: ZstdConfig,
    tag: EncodingTag,
}

impl Encoding {
    /// Creates the encoding for these settings and this build's libzstd.
    #[must_use]
    pub fn new(settings: ZstdConfig) -> Self {
        let ZstdConfig { level, long_distance_matching, window_log } = settings;
        let window = match window_log {
            Some(log) => format!("-w{log}"),
            None if long_distance_matching => format!("-w{WINDOW_LOG}.{LARGE_WINDOW_LOG}"),
            None => String::new(),
        };
        let long = if long_distance_matching { format!("-long{}", LONG_FROM >> 20) } else { String::new() };
        // A negative level would begin with a second dash.
        let level = if level < 0 { format!("n{}", level.unsigned_abs()) } else { level.to_string() };
        let [hash, chain] = TABLES_LOG;
        let tables = if has_small_tables(settings.level) { format!("-h{hash}c{chain}") } else { String::new() };
        let tag = format!("zstd{}-{level}{tables}{window}{long}-f{}", version(), FRAME_SIZE >> 20);
        Self { settings, tag: EncodingTag(tag.into()) }
    }

    /// Returns its tag.
    #[must_use]
    pub const fn tag(&self) -> &EncodingTag {
        &self.tag
    }

    /// Returns the zstd parameters for a NAR of `size` bytes.
    pub(crate) fn parameters(&self, size: u64) -> Vec<CParameter> {
        let long_distance_matching = self.settings.long_distance_matching && size > LONG_FROM;
        // The library's default window for long distance matching is 128 MiB.
        let window_log = self.settings.window_log.or_else(|| {
            let log = if size > LARGE_WINDOW_FROM { LARGE_WINDOW_LOG } else { WINDOW_LOG };
            self.settings.long_distance_matching.then_some(log)
        });
        let mut all: Vec<_> = parameters(&ZstdConfig { long_distance_matching, window_log, ..self.settings }).collect();
        if has_small_tables(self.settings.level) && size > SMALL_TABLES_FROM {
            let [hash, chain] = TABLES_LOG;
            all.extend([CParameter::HashLog(hash), CParameter::ChainLog(chain)]);
        }
        all.push(CParameter::ChecksumFlag(true));
        all
    }
}

/// Size up to which NARs are encoded without long distance matching, in bytes. It finds repetitions beyond the reach of the
/// level's tables, and takes a fifth of an encoder's time. On 1.5 GB of NARs it saved 1.7 of 164 MB in those of 1
/// to 8 MiB, 10.5 of 135 MB in those between 8 and 32 MiB, and more than half in the four that are larger.
const LONG_FROM: u64 = 8 << 20;
/// Binary logarithm of the window in bytes, which holds all of any NAR of up to [`LARGE_WINDOW_FROM`] bytes.
const WINDOW_LOG: u32 = 25;
const LARGE_WINDOW_FROM: u64 = 1 << WINDOW_LOG;
/// Binary logarithm of the window for larger NARs. A NAR of 335 MB took 41.0 MB with 25, 20.1 with 26 and 17.2 with 27, in 0.70,
/// 0.44 and 0.44 s. An encoder allocates its window, and so does the decoder of each download, of which Nix runs up to 25:
/// a server's largest resident set was 191 MiB with 27, and a client's 163 MB for one NAR where it was 66 with 25.
const LARGE_WINDOW_LOG: u32 = 26;

/// Binary logarithms of the lengths of hash and chain table, of 4 bytes an entry. The level's defaults of 512 and 256 KiB fill
/// the processor's second-level cache, from which everything else that runs evicts them. With two encoders beside daemon, server and client on two processors these took 0.82 of the time, and 1.01 of
/// the bytes; by itself an encoder takes 0.9 of the time with them.
const TABLES_LOG: [u32; 2] = [16, 15];
/// Size up to which smaller tables save nothing, in bytes. It is not in the tag: a change must change the tag too.
const SMALL_TABLES_FROM: u64 = 1 << 20;

/// Returns whether a level uses these tables: those with libzstd's "double fast" strategy do.
const fn has_small_tables(level: i32) -> bool {
    matches!(level, 3 | 4)
}

/// Returns the release of libzstd, for example `1.5.7`. Another release may write other bytes.
#[must_use]
pub fn version() -> &'static str {
    zstd::zstd_safe::version_string()
}

/// Converts settings to parameters of libzstd.
pub fn parameters(settings: &ZstdConfig) -> impl Iterator<Item = CParameter> + use<> {
    [
        Some(CParameter::CompressionLevel(settings.level)),
        settings.window_log.map(CParameter::WindowLog),
        settings.long_distance_matching.then_some(CParameter::EnableLongDistanceMatching(true)),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_all_that_decides_the_bytes_and_parses() {
        let of = |settings| Encoding::new(settings).tag().to_string();
        let base = ZstdConfig::default();
        let tags = [
            of(base),
            of(ZstdConfig { level: 4, ..base }),
            of(ZstdConfig { level: -4, ..base }),
            of(ZstdConfig { window_log: Some(20), ..base }),
            of(ZstdConfig { window_log: Some(25), ..base }),
            of(ZstdConfig { long_distance_matching: !base.long_distance_matching, ..base }),
        ];
        for (index, tag) in tags.iter().enumerate() {
            assert!(tag.contains(version()), "{tag}");
            assert_eq!(tag.parse::<EncodingTag>().unwrap().as_str(), tag);
            assert!(!tags[..index].contains(tag), "{tag}");
        }
    }

    #[test]
    fn a_name_is_one_component_of_a_path() {
        for bad in
            ["", "zst", "x", "..", "zstd/..", "zstd1/2", "zstdA", "zstd\0", "zstd%2f", "zstd_", &"zstd1".repeat(10)]
        {
            assert_eq!(bad.parse::<EncodingTag>(), Err(InvalidTag), "{bad}");
        }
    }
}
