//! `publish = "all"`: finds valid paths that are not in the bucket, by a comparison whenever the store directory has changed.
//!
//! What the segments of all hosts name is not looked up again after a restart. A bucket that was emptied names nothing, and a
//! host that runs sees that within seconds. After the trusted keys have changed all narinfos are looked up once: what none of
//! them has signed is published again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harmonia_protocol::{HashPart, StorePath};

use super::queue::Urgency;
use crate::bucket::index::Indexed;
use crate::bucket::state::Bucket;
use crate::config::Publish;
use crate::store::Store;

/// Pause between two looks at the store directory.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time for which the store is compared after its directory has changed: a path is valid only after its files are there.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
/// Time after which it is compared anyhow.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Part of the time that comparisons may take.
const BUSY: u32 = 10;
/// Pause after an error.
const RETRY: Duration = Duration::from_secs(10);

impl Bucket {
    /// Queues valid paths that are not in the bucket, if the configuration says so. Never returns.
    pub(crate) async fn publish_new_paths(&self, store: &Arc<Store>) {
        if self.config.publish != Publish::All {
            return std::future::pending().await;
        }
        let mut known = loop {
            match self.publishing.take_listed() {
                Some(listed) => break listed,
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        let mut checked = self.publishing.checked_keys().await;
        if checked != self.publishing.trusted_keys() && self.publishing.keys.is_kept() {
            known.clear();
        }
        let (mut stamp, mut changed, mut compared) = (None, Instant::now(), None::<Instant>);
        loop {
            if let Some(listed) = self.publishing.take_listed() {
                (known, compared) = (listed, None);
            }
            // Whatever cannot be read is compared as if it had changed.
            let now = store.changed().await.ok().flatten();
            if now != stamp || now.is_none() {
                (stamp, changed) = (now, Instant::now());
            }
            let is_due = compared.is_none_or(|it| changed + SETTLES_WITHIN > it || it.elapsed() > COMPARE_EVERY);
            let began = Instant::now();
            if is_due {
                match store.all_paths().await {
                    Ok(paths) => {
                        let valid: Vec<_> =
                            paths.iter().filter(|path| !path.is_derivation()).map(StorePath::hash_part).collect();
                        self.queue_missing(&valid, &mut known).await;
                        compared = Some(began);
                    }
                    Err(error) => {
                        tracing::debug!("cannot compare the store with the bucket: {error}");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
            let trusted = self.publishing.trusted_keys();
            if compared == Some(began) && checked != trusted && self.publishing.queue.len() == 0 {
                self.publishing.keys.write(trusted.clone()).await;
                checked = trusted;
            }
            tokio::time::sleep(LOOK_EVERY.max(began.elapsed() * BUSY)).await;
        }
    }

    async fn queue_missing(&self, valid: &[HashPart], known: &mut HashSet<HashPart>) {
        let mut still = HashSet::with_capacity(valid.len());
        for (nth, path) in valid.iter().enumerate() {
            let is_there = known.contains(path) && self.index.look_up(path) != Indexed::No;
            if is_there || self.publishing.is_settled(path) || self.publishing.queue.push(*path, Urgency::New) {
                still.insert(*path);
            }
            if nth % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
        }
        *known = still;
    }
}
