//! Listings of the files of paths (`.ls`), which programs such as nix-index read, and clients do not need.
//!
//! Nobody has signed them, and caches have them as they are or compressed, which only some say. The target gets JSON.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use harmonia_protocol::HashPart;
use harmonia_protocol::narinfo::Compression;
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use super::source::Source;
use crate::bucket::{BucketError, BucketStore, ObjectName, Replace};
use crate::push::decode::decoder;

/// Listings that are copied at a time, each of them in memory.
const COPIED: usize = 16;
/// Upper bound of a listing, in bytes. Larger ones are not copied.
const MAX_LISTING: usize = 8 << 20;
/// Compressions that Nix writes (`ls-compression`).
const COMPRESSIONS: [Compression; 4] = [Compression::Zstd, Compression::Xz, Compression::Brotli, Compression::Gzip];

/// Copies the listings of these paths, as far as there are any.
pub(super) async fn copy(
    source: &Arc<Source>,
    target: &Arc<BucketStore>,
    paths: Vec<HashPart>,
) -> Result<(), BucketError> {
    let (mut paths, mut running) = (paths.into_iter(), JoinSet::new());
    loop {
        while running.len() < COPIED {
            let Some(path) = paths.next() else { break };
            let (source, target) = (Arc::clone(source), Arc::clone(target));
            running.spawn(async move { copy_one(&source, &target, &ObjectName::Listing(path)).await });
        }
        match running.join_next().await {
            Some(Ok(copied)) => copied?,
            Some(Err(panicked)) => tracing::debug!("{panicked}"),
            None => return Ok(()),
        }
    }
}

async fn copy_one(source: &Source, target: &BucketStore, name: &ObjectName) -> Result<(), BucketError> {
    let found = match source.small(name, MAX_LISTING).await {
        Err(error) if !error.kind.may_pass() => {
            tracing::debug!("{error}");
            None
        }
        found => found?,
    };
    let Some(found) = found.filter(|found| found.len() <= MAX_LISTING) else { return Ok(()) };
    let Ok(Some(listing)) = tokio::task::spawn_blocking(move || json(found)).await else { return Ok(()) };
    target.put(name, listing, Replace::IfAbsent).await.map(drop)
}

/// Returns the JSON of a listing that may be compressed; `None` if it is none.
fn json(listing: Bytes) -> Option<Bytes> {
    let is_json = |text: &[u8]| text.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok();
    if is_json(&listing) {
        return Some(listing);
    }
    COMPRESSIONS.into_iter().find_map(|compression| {
        let mut text = Vec::new();
        let decoder = decoder(compression, Cursor::new(listing.clone())).ok()?;
        decoder.take(MAX_LISTING as u64 + 1).read_to_end(&mut text).ok()?;
        (text.len() <= MAX_LISTING && is_json(&text)).then(|| text.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_json_however_it_was_compressed() {
        let text = b"{\"version\":1,\"root\":{\"type\":\"directory\",\"entries\":{}}}";
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for listing in [text.to_vec(), zstd.clone()] {
            assert_eq!(json(listing.into()).unwrap(), &text[..]);
        }
        let many = zstd::encode_all(std::io::repeat(b' ').take(MAX_LISTING as u64 * 2), 3).unwrap();
        for other in [b"<html>".to_vec(), b"{".to_vec(), Vec::new(), zstd[..9].to_vec(), many] {
            assert_eq!(json(other.into()), None);
        }
    }
}
