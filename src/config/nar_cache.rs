//! NAR cache settings: `[nar_cache]`, `[zstd]` and `enable_compression`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::byte_size::ByteSize;
use super::environment::first_directory_of;
use super::file::ConfigFile;
use super::nar::Precompress;

/// Gives an encoder about a tenth of a processor that it shares with a thread of nice 0.
const DEFAULT_ENCODER_NICENESS: i32 = 10;
/// Default of zstd, and the highest level at which one thread keeps up with a gigabit link (118 MB/s): on
/// 100 MB of a shared library level 3 took 2.4:1 at 170 MB/s, level 5 took 2.6:1 at 54 MB/s.
const DEFAULT_ZSTD_LEVEL: i32 = 3;
/// 128 MiB, the largest window that decoders accept by default: Nix 2.6 to 2.34 accept 27 and refuse 31.
const MAX_WINDOW_LOG: u32 = 27;
/// Default size, which fits the compressed closure of a desktop.
const DEFAULT_NAR_CACHE: ByteSize = ByteSize::mebibytes(10 << 10);

/// Parameters of zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZstdConfig {
    /// Compression level: higher is smaller and slower, negative is fastest.
    pub level: i32,
    /// Searches for repetitions in the whole window, which costs memory and time per encoder.
    pub long_distance_matching: bool,
    /// Binary logarithm of the window in bytes, 10 to 27; `None` leaves it to the level, and with long distance matching to
    /// the size of the NAR.
    pub window_log: Option<u32>,
}

/// Directory of the NAR cache and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarCacheConfig {
    /// Directory, used by no other program.
    pub dir: PathBuf,
    /// Upper bound of the total file size.
    pub max_size: ByteSize,
    /// NARs to compress before they are requested.
    pub precompress: Precompress,
}

impl Default for ZstdConfig {
    fn default() -> Self {
        Self { level: DEFAULT_ZSTD_LEVEL, long_distance_matching: true, window_log: None }
    }
}

/// Threads that compress NARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodersConfig {
    /// Number of threads, at least 1.
    pub threads: usize,
    /// Nice value of the threads, 0 to 19, if higher than that of the process.
    pub nice: i32,
}

/// Resolves `[zstd]`.
pub(super) fn zstd(file: &ConfigFile, warnings: &mut Vec<String>) -> ZstdConfig {
    let level = file.zstd_level.unwrap_or(DEFAULT_ZSTD_LEVEL);
    let long_distance_matching = file.zstd_long_distance_matching.unwrap_or(true);
    let window_log = match file.zstd_window_log {
        Some(log) if log > MAX_WINDOW_LOG => {
            let text = format!("{log} is lowered to {MAX_WINDOW_LOG}: clients refuse a larger window");
            warnings.push(file.warning("zstd.window_log", text));
            Some(MAX_WINDOW_LOG)
        }
        log => log,
    };
    ZstdConfig { level, long_distance_matching, window_log }
}

/// Resolves `enable_compression`: on by default if there is a NAR cache. Compressing a NAR for each response would cost more than
/// it saves.
pub(super) fn enable_compression(file: &ConfigFile, is_kept: bool, warnings: &mut Vec<String>) -> bool {
    if file.enable_compression == Some(true) && !is_kept {
        let text =
            "has no effect without a NAR cache directory\n  help: set nar_cache.dir, or CacheDirectory= in the unit";
        warnings.push(file.warning("enable_compression", text));
    }
    is_kept && file.enable_compression.unwrap_or(true)
}

/// Resolves the NAR cache directory: `nar_cache.dir`, or else the first in `CACHE_DIRECTORY`. Warns if a directory set in the file
/// remains unused.
pub(super) fn nar_cache(
    file: &mut ConfigFile,
    variable: Option<&OsStr>,
    warnings: &mut Vec<String>,
) -> Option<NarCacheConfig> {
    if file.nar_cache_dir.is_some() {
        if file.nar_cache_max_size.is_some_and(|size| size.bytes() == 0) {
            let text = "has no effect with nar_cache.max_size = 0\n  help: remove one of the two";
            warnings.push(file.warning("nar_cache.dir", text));
        } else if file.enable_compression == Some(false) {
            let text = "stores only NARs whose compressed URLs clients have cached, since enable_compression = false\n  \
                        help: remove one of the two";
            warnings.push(file.warning("nar_cache.dir", text));
        }
    }
    let dir = file.nar_cache_dir.take().or_else(|| first_directory_of(variable).map(Path::to_owned))?;
    let max_size = file.nar_cache_max_size.unwrap_or(DEFAULT_NAR_CACHE);
    let precompress = file.nar_cache_precompress.unwrap_or_default();
    (max_size.bytes() > 0).then_some(NarCacheConfig { dir, max_size, precompress })
}

/// Resolves `nar_cache.threads` and `nar_cache.nice`.
pub(super) fn encoders(file: &ConfigFile) -> EncodersConfig {
    EncodersConfig {
        threads: file.nar_cache_threads.filter(|threads| *threads > 0).unwrap_or_else(processors),
        nice: file.nar_cache_nice.unwrap_or(DEFAULT_ENCODER_NICENESS),
    }
}

/// Returns the number of threads that can run at the same time.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{environment, loaded};
    use crate::config::{CliOverrides, Config, Environment};

    #[test]
    fn the_window_is_never_larger_than_clients_accept() {
        for (zstd, window_log) in [
            ("", None),
            ("long_distance_matching = false", None),
            ("level = 22\nwindow_log = 20", Some(20)),
            ("window_log = 27", Some(27)),
            ("window_log = 0", None),
        ] {
            let (config, warnings) = loaded(&format!("[zstd]\n{zstd}"));
            assert_eq!((config.zstd.window_log, warnings.len()), (window_log, 0), "{zstd}");
        }
        let (config, warnings) = loaded("[zstd]\nwindow_log = 31");
        assert_eq!(config.zstd.window_log, Some(27));
        assert_eq!(warnings, ["config.toml:2: zstd.window_log 31 is lowered to 27: clients refuse a larger window"]);
    }

    #[test]
    fn nars_are_kept_where_the_file_or_systemd_says() {
        let with = |text: &str, variable: Option<&str>| {
            let environment = Environment { cache_directory: variable.map(Into::into), ..environment() };
            let (file, mut warnings) = ConfigFile::parse(Path::new("config.toml"), text).unwrap();
            Config::resolve(file, CliOverrides::default(), &environment, &mut warnings).unwrap().nar_cache
        };
        let cache = |dir: &str, mebibytes| {
            Some(NarCacheConfig {
                dir: dir.into(),
                max_size: ByteSize::mebibytes(mebibytes),
                precompress: Precompress::Requested,
            })
        };
        assert_eq!(with("", None), None);
        assert_eq!(with("", Some("")), None);
        assert_eq!(with("", Some("/var/cache/harmonia")), cache("/var/cache/harmonia", 10240));
        assert_eq!(with("", Some("/var/cache/a:/var/cache/b")), cache("/var/cache/a", 10240));
        assert_eq!(with("nar_cache.dir = \"/a\"\nnar_cache.max_size = \"1G\"", Some("/b")), cache("/a", 1024));
        assert_eq!(with("nar_cache.max_size = 0", Some("/b")), None);
    }

    #[test]
    fn compression_is_on_where_nars_can_be_kept_unless_the_file_says_otherwise() {
        for (text, is_on, warned) in [
            ("", false, false),
            ("enable_compression = true", false, true),
            ("enable_compression = false", false, false),
            ("nar_cache.dir = \"/a\"", true, false),
            ("nar_cache.dir = \"/a\"\nenable_compression = true", true, false),
            ("nar_cache.dir = \"/a\"\nenable_compression = false", false, true),
            ("nar_cache.dir = \"/a\"\nnar_cache.max_size = 0", false, true),
            ("nar_cache.max_size = 0", false, false),
            ("nar_cache.dir = \"/a\"\nnar_cache.max_size = 0\nenable_compression = true", false, true),
        ] {
            let (config, warnings) = loaded(text);
            assert_eq!((config.enable_compression, !warnings.is_empty()), (is_on, warned), "{text}");
        }
    }
}
