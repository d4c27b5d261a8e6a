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

/// Tells hosts of a segment.
async fn announce(store: &BucketStore, host: &str, sequence: u32) {
    Latest::announce(store, &host.parse().unwrap(), SegmentId { epoch: 1, sequence }).await.unwrap();
}

/// Lists all segments, as happens now and then.
async fn list(index: &Index, store: &BucketStore) -> Option<Vec<HashPart>> {
    index.state.lock().listed = None;
    index.refresh(store).await.unwrap()
}

fn lists(store: &BucketStore) -> u64 {
    store.metrics().bucket.requests("list", "ok")
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
    list(&index, &store).await;
    // A listing has shown the second of two segments first.
    put(&store, "a", 0, &[3], &[]).await;
    list(&index, &store).await;
    assert_eq!(found(&index, 0..10), [1, 2, 3]);
    let later = Instant::now() + FRESH * 2;
    assert_eq!(index.look_up_at(&part(9), later), Indexed::Unknown);
    assert_eq!(index.look_up_at(&part(1), later), Indexed::Maybe);
}

#[tokio::test]
async fn a_segment_that_hosts_are_told_of_is_found_without_a_listing() {
    let (store, index) = (store(), Index::new(1));
    put(&store, "a", 0, &[1], &[]).await;
    index.refresh(&store).await.unwrap();
    assert_eq!(lists(&store), 1);
    for sequence in 1..4 {
        put(&store, "a", sequence, &[u64::from(sequence) + 1], &[]).await;
    }
    put(&store, "b", 0, &[5], &[]).await;
    announce(&store, "b", 0).await;
    // It has overwritten those before.
    announce(&store, "a", 3).await;
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [1, 2, 3, 4, 5]);
    let gets = store.metrics().bucket.requests("get", "ok");
    index.refresh(&store).await.unwrap();
    assert_eq!((lists(&store), store.metrics().bucket.requests("get", "ok")), (1, gets + 1), "one request");
}

#[tokio::test]
async fn segments_are_listed_when_hosts_are_told_of_what_is_not_there_or_of_many() {
    let (store, index) = (store(), Index::new(1));
    index.refresh(&store).await.unwrap();
    // Put together with others.
    announce(&store, "a", 7).await;
    put(&store, "b", 0, &[1], &[]).await;
    index.refresh(&store).await.unwrap();
    assert_eq!((lists(&store), found(&index, 0..10)), (2, vec![1]));
    index.refresh(&store).await.unwrap();
    assert_eq!(lists(&store), 2, "it is known to be gone");
    put(&store, "a", 8, &[2], &[]).await;
    announce(&store, "a", 8).await;
    index.refresh(&store).await.unwrap();
    assert_eq!((lists(&store), found(&index, 0..10)), (2, vec![1, 2]));
    for sequence in 9..30 {
        put(&store, "a", sequence, &[u64::from(sequence)], &[]).await;
    }
    announce(&store, "a", 29).await;
    index.refresh(&store).await.unwrap();
    assert_eq!((lists(&store), found(&index, 0..40).len()), (3, 23));
}

#[tokio::test]
async fn a_bucket_that_was_emptied_is_noticed_at_once() {
    let (store, index) = (store(), Index::new(1));
    for host in ["a", "b"] {
        put(&store, host, 0, &[1, 2], &[]).await;
        announce(&store, host, 0).await;
    }
    index.refresh(&store).await.unwrap();
    for host in ["a", "b"] {
        store.delete(&name(host, 0)).await.unwrap();
    }
    store.delete(&ObjectName::Latest).await.unwrap();
    // One has published something again meanwhile.
    put(&store, "b", 1, &[3], &[]).await;
    announce(&store, "b", 1).await;
    index.refresh(&store).await.unwrap();
    assert_eq!(found(&index, 0..10), [3]);
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
    list(&index, &store).await;
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
    list(&index, &store).await;
    assert_eq!(found(&index, 0..10), [1, 2, 3]);
    assert_eq!(index.state.lock().applied.len(), 1);
    // Without one that a garbage collection has deleted.
    put(&store, "b", 0, &[2, 3], &[]).await;
    store.delete(&name("a", 2)).await.unwrap();
    list(&index, &store).await;
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
    assert_eq!(list(&index, &store).await, None);
    index.state.lock().removed = usize::MAX;
    assert_eq!(list(&index, &store).await.unwrap().len(), 2, "made anew");
    assert_eq!(found(&index, 0..10), [1, 2]);
    // The bucket was emptied.
    for host in ["a", "b"] {
        store.delete(&name(host, 0)).await.unwrap();
    }
    assert_eq!(list(&index, &store).await, Some(vec![]));
    assert!(found(&index, 0..10).is_empty());
    assert_eq!(index.look_up(&part(1)), Indexed::No);
    assert_eq!(list(&index, &store).await, None);
}

#[tokio::test]
async fn nothing_is_denied_while_a_segment_cannot_be_read() {
    let (store, index) = (store(), Index::new(1));
    put(&store, "a", 0, &[1], &[]).await;
    store.put(&name("a", 1), Bytes::from_static(b"broken"), Replace::Always).await.unwrap();
    index.refresh(&store).await.unwrap();
    assert_eq!((index.look_up(&part(1)), index.look_up(&part(2))), (Indexed::Maybe, Indexed::Unknown));
    assert_eq!(list(&index, &store).await, None, "not all are read");
    put(&store, "a", 1, &[2], &[]).await;
    list(&index, &store).await;
    assert_eq!((index.look_up(&part(2)), index.look_up(&part(3))), (Indexed::Maybe, Indexed::No));
}
