//! Series of segments that one process writes into the index.

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::bucket::engine::{BucketError, BucketStore, Operation, Put, Replace};
use crate::bucket::index::Latest;
use crate::bucket::object_name::{ObjectName, SegmentId};
use crate::bucket::segment::Segment;
use crate::config::HostName;

/// Numbers that are tried for a segment. Others are taken only if two hosts have the same name.
const MAX_TAKEN: usize = 100;

/// Series of a host.
#[derive(Debug)]
pub(in crate::bucket) struct Series {
    host: HostName,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    next: SegmentId,
    /// Segment that was written last.
    last: Option<SegmentId>,
}

impl Series {
    /// Creates a series that begins at `epoch`, in milliseconds since 1970.
    pub(in crate::bucket) fn new(host: HostName, epoch: u64) -> Self {
        Self { host, numbers: Mutex::new(Numbers { next: SegmentId { epoch, sequence: 0 }, last: None }) }
    }

    /// Puts a segment as the next one, tells the other hosts, and returns its name; `None` if it is empty.
    pub(in crate::bucket) async fn put(
        &self,
        store: &BucketStore,
        segment: &Segment,
    ) -> Result<Option<ObjectName>, BucketError> {
        if segment.is_empty() {
            return Ok(None);
        }
        let Numbers { next, last } = &mut *self.numbers.lock().await;
        let error = |id, cause: &dyn std::fmt::Display| {
            BucketError::other(Operation::Put, ObjectName::Segment(self.host.clone(), id).to_string(), cause)
        };
        let bytes = Bytes::from(segment.encode().map_err(|cause| error(*next, &cause))?);
        for _ in 0..MAX_TAKEN {
            let id = *next;
            let name = ObjectName::Segment(self.host.clone(), id);
            let put = store.put(&name, bytes.clone(), Replace::IfAbsent).await?;
            *next = id.next().ok_or_else(|| error(id, &"there is no number left"))?;
            if put == Put::Written {
                *last = Some(id);
                self.announce(store, id).await;
                return Ok(Some(name));
            }
        }
        Err(error(*next, &"another host has the same name\n  help: set bucket.host"))
    }

    /// Tells the others of the last segment again, if another host has overwritten that.
    pub(in crate::bucket) async fn announce_again(&self, store: &BucketStore, latest: &Latest) {
        // Otherwise a segment is being written.
        let Ok(numbers) = self.numbers.try_lock() else { return };
        if let Some(last) = numbers.last.filter(|last| !latest.has(&self.host, *last)) {
            self.announce(store, last).await;
        }
    }

    /// Tells the others of a segment. After an error they are told with the next refresh of the index, or list it.
    async fn announce(&self, store: &BucketStore, id: SegmentId) {
        if let Err(error) = Latest::announce(store, &self.host, id).await {
            tracing::debug!("other hosts learn later of {id}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::bucket::publish::plan::tests::part;

    #[tokio::test]
    async fn others_are_told_again_of_a_segment_that_another_host_has_overwritten() {
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 100);
        let host: HostName = "a".parse().unwrap();
        let series = Series::new(host.clone(), 7);
        let mut segment = Segment::default();
        assert!(segment.publish(part(1)));
        series.put(&store, &segment).await.unwrap();
        let told = Latest::get(&store).await.unwrap();
        let first = SegmentId { epoch: 7, sequence: 0 };
        assert!(told.has(&host, first));
        let lost = Latest::parse(b"b/0000000000001-00000001\n");
        store.put(&ObjectName::Latest, lost.render().into(), Replace::Always).await.unwrap();
        series.announce_again(&store, &told).await;
        assert!(!Latest::get(&store).await.unwrap().has(&host, first), "the last refresh had it");
        series.announce_again(&store, &lost).await;
        let told = Latest::get(&store).await.unwrap();
        assert!(told.has(&host, first) && told.has(&"b".parse().unwrap(), SegmentId { epoch: 1, sequence: 1 }));
    }
}
