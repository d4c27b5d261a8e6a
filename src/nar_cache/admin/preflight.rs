//! Checks the configuration of the NAR cache before anything is served.

use super::files::stats;
use crate::config::Config;
use crate::human_size::human_size;
use crate::nar_cache::disk::directory::{CacheDirectory, DirectoryError};
use crate::nar_cache::disk::free_space;

/// Returns the reason why narinfos name uncompressed NARs, if they do.
#[must_use]
pub fn disabled_reason(config: &Config) -> Option<&'static str> {
    match &config.nar_cache {
        _ if config.enable_compression => None,
        Some(_) => Some("enable_compression = false"),
        None => Some("no NAR cache is configured (nar_cache.dir or CACHE_DIRECTORY, and a nar_cache.max_size above 0)"),
    }
}

/// Checks, without changes, that the configured directory can be used. Returns lines for the operator: where compressed NARs
/// are stored, and whether disk space is short.
pub fn preflight(config: &Config) -> Result<Vec<String>, DirectoryError> {
    let Some(settings) = config.nar_cache.as_ref().filter(|_| config.enable_compression) else { return Ok(Vec::new()) };
    let failed = |cause| DirectoryError::Io { path: settings.dir.clone(), cause };
    let used = match CacheDirectory::configured(config)? {
        Some(dir) => stats(&dir).map_err(failed)?.1,
        None => 0,
    };
    let (dir, max_size) = (settings.dir.display(), settings.max_size.bytes());
    let mut texts = vec![format!("on, stored in {dir} (at most {})", human_size(max_size))];
    texts.extend(free_space::shortage(&settings.dir, max_size, used).map_err(failed)?);
    Ok(texts)
}
