//! The index over segments that appear in any order, go, and are put together.

use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;

use super::*;
use crate::bucket::engine::Replace;
use crate::bucket::narinfo::tests::path;
use crate::bucket::object_name::SegmentId;
use crate::bucket::segment::Segment;

fn part(number: u64) -> HashPart {
    path(number).hash_part()
}

fn name(host: &str, sequence: u32) -> ObjectName {
    ObjectName::Segment(host.parse().unwrap(), SegmentId { epoch: 1, sequence })
}

async fn put(store: &BucketStore, host: &str, sequence: u32, published: &[u64], removed: &[u64]) {
    let mut segment = Segment::default();
    assert!(published.iter().all(|number| segment.publish(part(*number))));
    assert!(removed.iter().all(|number| segment.remove(part(*number))));
    let bytes = segment.encode().unwrap().into();
    store.put(&name(host, sequence), bytes, Replace::Always).await.unwrap();
}

fn store() -> BucketStore {
    BucketStore::in_memory(&Arc::new(InMemory::new()), 1_000)
}

fn found(index: &Index, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| index.look_up(&part(*number)) != Indexed::No).collect()
}

#[tokio::test]
async fn what_any_host_publishes_is_found_in_whatever_order_it_appears() {
    let (store, index) = (store(), Index::new(1));
    assert_eq!(index.look_up(&part(1)), Indexed::Unknown);
    index.refresh(&store).await.unwrap();
    assert_eq!(index.look_up(&part(1)), Indexed::No);
    put(&store, "a", 1, &[1], &[]).await;
    put(&store, "b", 0, &[2], &[]).await;
    index.refresh(&store).await.unwrap();
    // A listing has shown the second of two segments first.
    put(&store, "a", 0, &[3], &[]).await;
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [1, 2, 3]);
    let later = Instant::now() + FRESH * 2;
    assert_eq!(index.look_up_at(&part(9), later), Indexed::Unknown);
    assert_eq!(index.look_up_at(&part(1), later), Indexed::Maybe);
}

#[tokio::test]
async fn the_next_segments_of_an_active_host_are_read_before_a_listing_has_them() {
    let (store, index, now) = (store(), Index::new(1), Instant::now());
    put(&store, "a", 0, &[1], &[]).await;
    index.refresh(&store).await.unwrap();
    let requests = || store.metrics().bucket.requests("get", "not_found");
    assert_eq!(requests(), 0, "a host that has done nothing since");
    put(&store, "a", 1, &[2], &[]).await;
    index.refresh(&store).await.unwrap();
    assert_eq!(requests(), 1);
    for sequence in 2..4 {
        put(&store, "a", sequence, &[u64::from(sequence) + 1], &[]).await;
    }
    index.read_ahead(&store, now).await.unwrap();
    assert_eq!(found(&index, 0..10), [1, 2, 3, 4]);
    let before = requests();
    index.read_ahead(&store, Instant::now() + ACTIVE * 2).await.unwrap();
    assert_eq!(requests(), before, "a host that has been quiet");
}

#[tokio::test]
async fn what_its_host_has_removed_is_gone_and_what_another_has_is_not() {
    let store = store();
    put(&store, "a", 0, &[1, 2, 3], &[]).await;
    put(&store, "a", 1, &[4], &[1, 2]).await;
    put(&store, "a", 2, &[2], &[]).await;
    put(&store, "b", 0, &[5], &[3]).await;
    let index = Index::new(1);
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [2, 3, 4, 5]);
    // Made anew when much was removed.
    put(&store, "a", 3, &[], &[4, 3]).await;
    index.refresh(&store).await.unwrap();
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [2, 5]);
}

#[tokio::test]
async fn segments_that_were_put_together_into_one_are_as_before() {
    let (store, index) = (store(), Index::new(1));
    put(&store, "a", 0, &[1, 2], &[]).await;
    put(&store, "a", 1, &[3], &[]).await;
    index.refresh(&store).await.unwrap();
    put(&store, "a", 2, &[1, 2, 3], &[]).await;
    for sequence in 0..2 {
        store.delete(&name("a", sequence)).await.unwrap();
    }
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [1, 2, 3]);
    assert_eq!(index.state.lock().applied.len(), 1);
    // Without one that a garbage collection has deleted.
    put(&store, "b", 0, &[2, 3], &[]).await;
    store.delete(&name("a", 2)).await.unwrap();
    index.refresh(&store).await.unwrap();
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [2, 3]);
}

#[tokio::test]
async fn what_this_host_has_put_is_found_as_long_as_its_segment_is_there() {
    let (store, index) = (store(), Index::new(1));
    assert_eq!(index.refresh(&store).await.unwrap(), Some(vec![]));
    put(&store, "a", 0, &[1], &[]).await;
    index.insert(name("a", 0), vec![part(1)]);
    assert_eq!(found(&index, 0..10), [1]);
    put(&store, "b", 0, &[2], &[]).await;
    assert_eq!(index.refresh(&store).await.unwrap(), None);
    index.state.lock().removed = usize::MAX;
    assert_eq!(index.refresh(&store).await.unwrap().unwrap().len(), 2, "made anew");
    assert_eq!(found(&index, 0..10), [1, 2]);
    // The bucket was emptied.
    for host in ["a", "b"] {
        store.delete(&name(host, 0)).await.unwrap();
    }
    assert_eq!(index.refresh(&store).await.unwrap(), Some(vec![]));
    assert!(found(&index, 0..10).is_empty());
    assert_eq!(index.look_up(&part(1)), Indexed::No);
    assert_eq!(index.refresh(&store).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_is_denied_while_a_segment_cannot_be_read() {
    let (store, index) = (store(), Index::new(1));
    put(&store, "a", 0, &[1], &[]).await;
    store.put(&name("a", 1), Bytes::from_static(b"broken"), Replace::Always).await.unwrap();
    index.refresh(&store).await.unwrap();
    assert_eq!((index.look_up(&part(1)), index.look_up(&part(2))), (Indexed::Maybe, Indexed::Unknown));
    put(&store, "a", 1, &[2], &[]).await;
    index.refresh(&store).await.unwrap();
    assert_eq!((index.look_up(&part(2)), index.look_up(&part(3))), (Indexed::Maybe, Indexed::No));
}
