//! Records that a running host writes for the garbage collection of the bucket: paths that it serves, and those that its own garbage
//! collector keeps. It also puts its many segments of the index together into few.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use harmonia_protocol::HashPart;
use tokio::time::{Instant, sleep};

use super::engine::{BucketError, Operation, Replace};
use super::gc::Merged;
use super::gc::hash_list;
use super::index::Indexed;
use super::object_name::{ObjectName, SegmentId};
use super::state::Bucket;
use crate::config::BucketLocation;
use crate::config::Credentials;
use crate::store::Store;

/// Time between two writes of what was served.
const WRITE_EVERY: Duration = Duration::from_secs(600);
/// Writes after which the roots and the number of segments are looked at.
const LOOK_EVERY: usize = 6;
/// Time after which roots that are the same are written again, so that this host counts as live.
const ROOTS_EVERY: Duration = Duration::from_secs(86_400);
/// Segments of this host from which on they are put together: each refresh of an index lists all segments.
const MANY: usize = 64;
/// Segments of this host that are listed.
const MAX_SEGMENTS: usize = 20_000;

impl Bucket {
    /// Records that a client was told of a path, if the bucket may have it.
    pub(crate) fn record_used(&self, path: &HashPart) {
        if self.index.look_up(path) == Indexed::Maybe {
            self.used.record(path);
        }
    }

    /// Writes what this host serves and keeps, again and again.
    pub(crate) async fn run_upkeep(&self, store: &Store) {
        let is_read_only = self.config.credentials == Credentials::Anonymous
            && matches!(self.config.location, BucketLocation::S3 { .. });
        if is_read_only {
            std::future::pending::<()>().await;
        }
        let (mut last, mut has_failed) = (None, false);
        for round in 0_usize.. {
            sleep(WRITE_EVERY).await;
            let mut result = self.used.write(&self.store, &self.config.host, SystemTime::now()).await;
            if round % LOOK_EVERY == 0 && result.is_ok() {
                result = self.write_roots(store, &mut last).await;
                if result.is_ok() {
                    result = self.compact_segments().await;
                }
            }
            match &result {
                Err(error) if !has_failed => {
                    tracing::warn!("the bucket does not learn what is used on this host: {error}");
                }
                Ok(()) | Err(_) => {}
            }
            has_failed = result.is_err();
        }
    }

    /// Writes which paths of the bucket nix-daemon's garbage collector keeps, if that has changed or was written long ago.
    async fn write_roots(
        &self,
        store: &Store,
        last: &mut Option<(Instant, BTreeSet<HashPart>)>,
    ) -> Result<(), BucketError> {
        if !store.has_daemon() {
            return Ok(());
        }
        // The roots of before count for two weeks.
        let Ok(roots) = store.rooted().await.inspect_err(|error| tracing::debug!("cannot query GC roots: {error}"))
        else {
            return Ok(());
        };
        let roots: BTreeSet<_> = roots.iter().map(harmonia_protocol::StorePath::hash_part).collect();
        let roots: BTreeSet<_> = roots.into_iter().filter(|root| self.index.look_up(root) != Indexed::No).collect();
        if last.as_ref().is_some_and(|(written, same)| written.elapsed() < ROOTS_EVERY && *same == roots) {
            return Ok(());
        }
        let name = ObjectName::Roots(self.config.host.clone());
        let bytes =
            hash_list::encode(&roots).map_err(|cause| BucketError::other(Operation::Put, name.to_string(), cause))?;
        self.store.put(&name, bytes.into(), Replace::Always).await?;
        *last = Some((Instant::now(), roots));
        Ok(())
    }

    /// Puts the segments of this host together, if there are many.
    pub(in crate::bucket) async fn compact_segments(&self) -> Result<(), BucketError> {
        let folder = ObjectName::segments_of(&self.config.host);
        let listed = self.store.list(&folder, None, MAX_SEGMENTS).await?;
        if listed.len() < MANY {
            return Ok(());
        }
        let merged = Merged::read(&self.store, listed.into_iter().map(|(name, _)| name).collect()).await?;
        // Full segments do not become fewer.
        if merged.segment_count() * 2 < merged.segments.len()
            && merged.put(&self.store, &self.config.host, SegmentId::epoch_of(SystemTime::now())).await?
        {
            merged.delete(&self.store).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::engine::BucketStore;
    use crate::bucket::object_name::SegmentId;
    use crate::bucket::publish::plan::tests::part;
    use crate::bucket::segment::Segment;

    async fn segments(store: &BucketStore) -> usize {
        store.list("harmonia/v1/index/", None, 1_000).await.unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn many_segments_become_one_that_says_the_same() {
        let memory = Arc::new(InMemory::new());
        let bucket = Bucket::in_memory(&memory, crate::config::Unreachable::Retry);
        for number in 0..MANY {
            let mut segment = Segment::default();
            assert!(segment.publish(part(number as u64)));
            assert!(number == 0 || segment.remove(part(number as u64 / 2)));
            let sequence = u32::try_from(number).unwrap();
            let name = ObjectName::Segment(bucket.config.host.clone(), SegmentId { epoch: 1, sequence });
            bucket.store.put(&name, segment.encode().unwrap().into(), Replace::Always).await.unwrap();
            if number == 40 {
                bucket.compact_segments().await.unwrap();
                assert_eq!(segments(&bucket.store).await, 41, "few stay as they are");
            }
        }
        let paths = async || {
            bucket.index.refresh(&bucket.store).await.unwrap();
            (0..200).filter(|number| bucket.index.look_up(&part(*number)) != Indexed::No).collect::<Vec<_>>()
        };
        let before = paths().await;
        bucket.compact_segments().await.unwrap();
        assert_eq!(segments(&bucket.store).await, 1);
        assert_eq!(paths().await, before);
        assert_eq!(paths().await, before, "made anew");
        assert_eq!(before, (32..64).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn only_what_the_bucket_may_have_counts_as_used() {
        let bucket = Bucket::in_memory(&Arc::new(InMemory::new()), crate::config::Unreachable::Retry);
        bucket.index.refresh(&bucket.store).await.unwrap();
        bucket.index.insert(ObjectName::Host("a".parse().unwrap()), vec![part(1)]);
        bucket.record_used(&part(1));
        bucket.record_used(&part(2));
        bucket.used.write(&bucket.store, &bucket.config.host, SystemTime::now()).await.unwrap();
        let objects = bucket.store.list("harmonia/v1/used/", None, 10).await.unwrap();
        let bytes = bucket.store.get(&objects[0].0, 1_000, crate::bucket::engine::Patience::Client).await.unwrap();
        assert_eq!(hash_list::decode(&bytes.unwrap()), Some([part(1)].into()));
    }
}
