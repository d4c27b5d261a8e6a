//! The task that renews and removes the roots of pushed paths.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use harmonia_protocol::HashPart;
use tokio::time::Instant;

use crate::push::keep::links::Links;
use crate::sync::Mutex;

/// Name of the directory of symlinks in the state directory.
const DIRECTORY: &str = "pushed";
/// Interval at which the roots of paths that were asked for are renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// Most paths that are renewed in an interval. Others are when they are asked for again.
const MAX_ASKED_FOR: usize = 1 << 16;
/// Shortest and longest interval at which old roots are removed.
const MIN_REMOVAL: Duration = Duration::from_secs(10);
const MAX_REMOVAL: Duration = Duration::from_secs(3600);

/// Roots of pushed paths.
#[derive(Debug)]
pub(crate) struct Keep {
    links: Arc<Links>,
    /// Time for which a path is kept, in seconds.
    length: AtomicU64,
    /// Paths that were asked for and not renewed yet, pushed or not.
    asked_for: Mutex<HashSet<HashPart>>,
}

impl Keep {
    /// Keeps paths for `length` by symlinks in a state directory, which has to be absolute.
    pub(crate) fn new(state_dir: &Path, length: Duration) -> Self {
        let links = Arc::new(Links::new(state_dir.join(DIRECTORY)));
        Self { links, length: AtomicU64::new(length.as_secs()), asked_for: Mutex::default() }
    }

    /// Changes the time for which paths are kept.
    pub(crate) fn set_length(&self, length: Duration) {
        self.length.store(length.as_secs(), Ordering::Relaxed);
    }

    /// Makes or renews the symlink of a path, which becomes a root once nix-daemon knows of it.
    pub(crate) async fn create(&self, hash: HashPart, target: String) -> io::Result<PathBuf> {
        self.on_disk(move |links| links.create(hash, &target)).await
    }

    /// Records that a path was asked for.
    pub(crate) fn record_asked_for(&self, hash: HashPart) {
        let mut asked_for = self.asked_for.lock();
        if asked_for.len() < MAX_ASKED_FOR {
            asked_for.insert(hash);
        }
    }

    /// Renews roots of paths that were asked for, and removes those of paths that were not for long. Never returns.
    pub(crate) async fn run(&self) {
        let mut next_removal = Instant::now();
        loop {
            self.renew().await;
            if Instant::now() >= next_removal {
                let length = self.length();
                self.remove(length).await;
                next_removal = Instant::now() + (length / 10).clamp(MIN_REMOVAL, MAX_REMOVAL);
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }

    async fn renew(&self) {
        let asked_for = std::mem::take(&mut *self.asked_for.lock());
        if asked_for.is_empty() {
            return;
        }
        let renewed = self.on_disk(move |links| asked_for.into_iter().try_for_each(|hash| links.renew(hash))).await;
        if let Err(error) = renewed {
            tracing::warn!("cannot renew the GC roots of pushed paths: {error}");
        }
    }

    async fn remove(&self, length: Duration) {
        match self.on_disk(move |links| links.remove_older(length, SystemTime::now())).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!("removed the GC roots of {removed} pushed paths that nobody asked for"),
            Err(error) => tracing::warn!("cannot remove old GC roots of pushed paths: {error}"),
        }
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.length.load(Ordering::Relaxed))
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Links) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let links = Arc::clone(&self.links);
        tokio::task::spawn_blocking(move || work(&links)).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [&str; 2] = ["lq7lf2dg0c05ibn8r201m1cgdcj5i60a", "3dcxyc6w8pkhc4nhbdpkq7shq6jkp94j"];

    #[tokio::test]
    async fn what_is_asked_for_stays_and_the_other_goes() {
        let state = tempfile::tempdir().unwrap();
        let keep = Keep::new(state.path(), Duration::from_secs(3600));
        let mut links = Vec::new();
        for hash in HASHES {
            let link = keep.create(hash.parse().unwrap(), "/nix/store/x".into()).await.unwrap();
            assert!(
                std::process::Command::new("touch")
                    .args(["-h", "-d", "2001-01-01"])
                    .arg(&link)
                    .status()
                    .unwrap()
                    .success()
            );
            links.push(link);
        }
        keep.record_asked_for(HASHES[0].parse().unwrap());
        keep.record_asked_for("00000000000000000000000000000000".parse().unwrap());
        keep.renew().await;
        keep.remove(keep.length()).await;
        let exist = links.iter().map(|link| std::fs::symlink_metadata(link).is_ok()).collect::<Vec<_>>();
        assert_eq!(exist, [true, false]);
    }
}
