//! Fixtures of the NAR cache: a configuration, a NAR of several blocks, and decompression.

use std::io::Read as _;
use std::path::Path;

use super::http::Http;
use super::narinfo::value;
use super::scripted_daemon::ScriptedDaemon;
use super::store_item::StoreItem;

/// Returns a configuration with a NAR cache in this directory.
pub(crate) fn with_nar_cache(dir: &Path, daemon: &str) -> String {
    format!("{daemon}nar_cache.dir = \"{}\"\n", dir.display())
}

/// Requests a narinfo and returns the URL of its NAR, with a leading slash.
pub(crate) fn nar_url_of(http: Http, narinfo: &str) -> String {
    format!("/{}", value(http.get(narinfo).text(), "URL"))
}

pub(crate) fn decoded(file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    zstd::Decoder::new(file).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// Returns a path whose NAR has several blocks and compresses little, and a daemon that has it.
pub(crate) fn multi_block_nar() -> (StoreItem, ScriptedDaemon) {
    let mut state = 7_u32;
    let contents: Vec<u8> = (0..1_200_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    let item = StoreItem::file(&contents);
    let daemon = ScriptedDaemon::start(item.script());
    (item, daemon)
}
