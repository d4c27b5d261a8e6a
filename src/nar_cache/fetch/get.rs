//! Finds a file in the cache, or has it fetched.

use std::future::Future;
use std::io;
use std::sync::Arc;

use super::source::{FileSource, FileToFetch};
use crate::fairness::ClientId;
use crate::metrics::NarCacheEvent;
use crate::nar_cache::cache::NarCache;
use crate::nar_cache::disk::disk_cache::DiskCache;
use crate::nar_cache::disk::entry::Entry;
use crate::nar_cache::disk::key::EntryKey;
use crate::nar_cache::error::FillError;
use crate::nar_cache::fill::fills::Joined;
use crate::nar_cache::fill::nar_source::{NarSource, OpenNar};
use crate::nar_cache::serve::{CompressedNar, Source};
use crate::store::ValidPath;

impl NarCache {
    /// Finds a file that was fetched, whatever it holds.
    pub(crate) async fn find_fetched(&self, sha256: &[u8; 32]) -> Option<CompressedNar> {
        let key = EntryKey::of_file(sha256);
        let entry = self.find(&key).await.ok()??;
        Some(on_disk(&self.disk, key, entry))
    }

    /// Finds a NAR of a path of this host that was compressed to this file.
    pub(crate) async fn find_compressed_to(&self, sha256: &[u8; 32]) -> Option<CompressedNar> {
        let key = self.disk.find_by_file(sha256)?;
        let entry = self.find(&key).await.ok()??;
        // It may have been compressed anew meanwhile.
        (entry.info().sha256 == *sha256).then(|| on_disk(&self.disk, key, entry))
    }

    /// Finds the NAR as this host compresses it, or compresses it from what `open` opens, for a path that is not valid here.
    pub(crate) async fn get_or_fill_with(
        self: &Arc<Self>,
        path: &Arc<ValidPath>,
        client: ClientId,
        open: OpenNar,
    ) -> Result<CompressedNar, FillError> {
        self.get_or_fill_from(path, client, NarSource::Elsewhere(open)).await
    }

    /// Finds a file that was fetched, or starts or joins its fetch, for which `open` opens the file at its first byte.
    pub(crate) async fn get_or_fetch<F>(
        &self,
        file: FileToFetch,
        client: ClientId,
        open: F,
    ) -> Result<CompressedNar, FillError>
    where
        F: Future<Output = io::Result<Box<dyn FileSource>>> + Send + 'static,
    {
        let (key, size) = (EntryKey::of_file(&file.info.sha256), file.info.size);
        let joined = match self.find(&key).await? {
            Some(entry) => Joined::Finished(entry),
            None => self.fetches.join_or_start(&key, file, client, open)?,
        };
        self.metrics.nar_cache.record(match &joined {
            Joined::Finished(_) => NarCacheEvent::Hit,
            Joined::Running(_) => NarCacheEvent::Joined,
            Joined::Started(_) => NarCacheEvent::Miss,
        });
        Ok(match joined {
            Joined::Finished(entry) => on_disk(&self.disk, key, entry),
            Joined::Running(progress) | Joined::Started(progress) => CompressedNar {
                disk: Arc::clone(&self.disk),
                key,
                nar_size: size,
                file_size: Some(size),
                source: Source::Fill(progress),
            },
        })
    }
}

fn on_disk(disk: &Arc<DiskCache>, key: EntryKey, entry: Arc<Entry>) -> CompressedNar {
    let size = entry.info().size;
    CompressedNar { disk: Arc::clone(disk), key, nar_size: size, file_size: Some(size), source: Source::Disk(entry) }
}
